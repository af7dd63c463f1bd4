"""A search on a Ray cluster of two nodes, of which one is lost and another joins."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from nas.execution.cluster import RayWorkers
from nas.execution.jobs import Tick, Workers
from nas.execution.local import LocalWorkers
from nas.latency.measure import measured
from nas.records.budget import Budget
from nas.records.plan import Meter
from nas.records.run_folder import RunFailed, create
from nas.records.trial import Score, Trial
from nas.search_strategy.engine import search
from nas.search_strategy.progress import Halt
from search_spaces import ANCHORS, LOWRES, lowres
from tests.conftest import fake_evaluate, plan_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

SEEDS = list(lowres.ANCHORS.values())
PLAN = plan_for(Budget(macs=25_000_000), trials=16)


def trials_of(path: Path, workers: Workers) -> list[Trial]:
    return search(PLAN, LOWRES, SEEDS, create(path, PLAN), workers).trials


def test_no_cluster_is_one_error() -> None:
    with pytest.raises(ConnectionError, match="no Ray cluster answers at '127"):
        RayWorkers(fake_evaluate, 2, "127.0.0.1:1")


def test_a_node_is_lost_another_joins_and_the_search_is_the_same(tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    lost = cluster.add_node(num_cpus=1)
    marker = tmp_path / "reached"

    def evaluate(arch: Any, rung: int, state: bytes | None, tick: Tick) -> tuple[Score, None]:
        if ray.get_runtime_context().get_node_id() == lost_id:
            marker.touch()
            threading.Event().wait()  # until the node is gone
        return fake_evaluate(arch, rung, state, tick)

    try:
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        lost_id = lost.node_id
        workers = RayWorkers(evaluate, 2, cluster.address)

        class Loses(Halt):
            """Asked again and again while trainings run, in this thread: Ray begins no node in another."""

            def __call__(self) -> bool:
                if marker.exists() and lost in cluster.worker_nodes:
                    cluster.remove_node(lost)
                    cluster.add_node(wait=False, num_cpus=1)
                return False

        found = search(PLAN, LOWRES, SEEDS, create(tmp_path / "run", PLAN), workers, halt=Loses()).trials
        assert marker.exists() and lost not in cluster.worker_nodes and len(cluster.worker_nodes) == 1
        assert found == trials_of(tmp_path / "here", LocalWorkers(fake_evaluate))
        workers.close()
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_node_with_a_device_measures(tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1, resources={"pi": 1})
    meter = Meter("lowres-mobilenet", "ray:pi", seconds=0.1)
    arch, reference = ANCHORS["tailored-mobilenetv2-imp4"].arch, ANCHORS["lowres-mobilenet"].arch
    try:
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        found = measured(arch, reference, meter)
        assert found.ratio is not None and 0 < found.ratio < 1
        with pytest.raises(RunFailed, match=r"no node of the Ray cluster offers 'phone' .*; start one with ray start"):
            measured(arch, reference, replace(meter, device="ray:phone"))
        with pytest.raises(RunFailed, match=r"on device ray:pi: .*gave no answer within 0\.02 s"):
            measured(arch, reference, replace(meter, timeout=0.01, seconds=0.01))
    finally:
        ray.shutdown()
        cluster.shutdown()
