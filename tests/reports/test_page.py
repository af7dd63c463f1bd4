"""The page, the pictures, and what a notebook shows; opened in headless Chromium where there is one."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from nas import search
from nas.api.loading import report_view
from nas.api.search import Result
from nas.networks.architecture import cost
from nas.networks.diagram import svg
from nas.records.statistics import Agreement, Calibration, Estimate
from nas.reports.page import page
from nas.reports.plots import ReportView
from search_spaces import ANCHORS, LIGHTWEIGHT
from tests.cli.test_cli import nas, nas_here

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A search with a made-up score, in a run's folder."""
    anchors = [ANCHORS[name] for name in ("lowres-mobilenet", "tailored-mobilenetv2", "tailored-mobilenetv2-imp2")]
    return search(
        LIGHTWEIGHT,
        "25MFLOPs",
        lambda arch, rung: 50 + 5 * rung + cost(arch).macs / 1e6 - cost(arch).params / 1e6,
        trials=14,
        rungs=2,
        anchors=anchors,
        run=tmp_path_factory.mktemp("runs") / "made-up",
    )


@pytest.fixture(scope="module")
def view(result: Result) -> ReportView:
    assert result.path
    found, problems = report_view(result.path)
    assert not problems
    return found


class Pieces(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def drawn(file: Path, size: str = "1200,3000") -> tuple[str, str]:
    """The page as Chromium has it after its scripts have run, and what it logged."""
    assert CHROMIUM
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-component-update",
        f"--window-size={size}",
        "--dump-dom",
    ]
    command += [
        "--virtual-time-budget=10000",
        "--enable-logging=stderr",
        "--v=0",
        f"--log-net-log={file}.net",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, done.stderr


def test_a_small_page_fetches_plotly_and_nothing_else(view: ReportView) -> None:
    small, whole = page([view], whole=False), page([view])
    assert len(small) < 400_000 < 4_000_000 < len(whole)
    sources = [attributes["src"] for tag, attributes in Pieces(small).tags if tag == "script" and "src" in attributes]
    assert len(sources) == 1 and re.fullmatch(r"https://cdn\.plot\.ly/plotly-[0-9.]+\.min\.js", sources[0] or "")
    policies = [str(dict(attrs).get("content")) for tag, attrs in Pieces(small).tags if "http-equiv" in attrs]
    assert len(policies) == 1 and f"script-src 'unsafe-inline' 'unsafe-eval' {sources[0]};" in policies[0]
    assert "https:" not in next(str(attrs["content"]) for _, attrs in Pieces(whole).tags if "http-equiv" in attrs)
    assert whole.replace(get_plotlyjs(), "").count("<script>") == small.count("<script>") + 1


def test_the_page_holds_all_it_needs(view: ReportView) -> None:
    text = page([view])
    assert len(text.encode()) < 6_000_000
    tags = Pieces(text).tags
    assert not [attrs for _, attrs in tags if "src" in attrs]
    assert [attrs for tag, attrs in tags if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    for said in ("lowres-mobilenet", "tailored-mobilenetv2-imp2", "25MFLOPs", "made-up", "fANOVA", "seed"):
        assert said in text
    names = {attrs["id"] for tag, attrs in tags if tag == "div" and "id" in attrs}
    assert names == {"scatter", "sofar", "rungs0", "importance0", "waves0"}


def test_the_plots_show_the_trials(view: ReportView) -> None:
    figures = embedded(page([view]))
    points = [x for trace in figures["scatter"]["data"] if trace["mode"] != "lines" for x in trace["x"]]
    shown = [trial for trial in view.trials if trial.state in ("complete", "pruned")]
    assert sorted(points) == pytest.approx(sorted(trial.cost.macs / 1e6 for trial in shown))
    assert figures["scatter"]["layout"]["shapes"][0]["x0"] == 25
    best = figures["sofar"]["data"][0]["y"]
    assert best == sorted(best) and best[-1] == max(t.score or 0 for t in view.trials if t.state == "complete")
    assert len(figures["rungs0"]["data"]) == len(shown)


def embedded(text: str) -> dict[str, dict[str, object]]:  # type: ignore[explicit-any]
    last = text.rpartition("const figures = {")[2].partition("};\nfor")[0]
    return json.loads("{" + re.sub(r",\s*$", "", last.strip()) + "}")


def test_a_hostile_name_does_nothing(view: ReportView, tmp_path: Path) -> None:
    bad = tuple(replace(t, anchor=HOSTILE if t.anchor else None, error=HOSTILE) for t in view.trials)
    failed = replace(bad[-1], state="failed", scores=())
    worst = replace(view, name=HOSTILE, trials=(*bad[:-1], failed), baseline=HOSTILE, importance={HOSTILE: 1.0})
    text = page([worst, worst])
    mine = text[: text.index("<script>")] + text[text.index("</head>") :]
    assert "<img" not in mine and "<script>document" not in mine
    assert sum(tag == "script" for tag, _ in Pieces(text).tags) == 2
    if CHROMIUM:
        (tmp_path / "page.html").write_text(text)
        dom, _ = drawn(tmp_path / "page.html")
        assert "<title>nas: &lt;/script&gt;" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("size", ["1200,3000", "500,3000"])
def test_chromium_draws_every_plot_and_asks_nobody(view: ReportView, tmp_path: Path, size: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(page([view, replace(view, name="again")]))
    dom, log = drawn(file, size)
    plots = re.findall(r'<div id="([a-z]+\d*)" class="js-plotly-plot', dom)
    assert set(plots) == {"scatter", "sofar"} | {
        f"{name}{i}" for name in ("rungs", "importance", "waves") for i in (0, 1)
    }
    assert dom.count("main-svg") >= len(plots)
    assert not [line for line in log.splitlines() if "CONSOLE" in line]
    asked = set(re.findall(r'"url":"([a-z]+)://([^/"]*)', Path(f"{file}.net").read_text()))
    own = ("google.com", "googleapis.com", "gvt1.com")  # Chromium's own calls home
    assert not [place for place in asked if place[0] in ("http", "https", "ws", "wss") and not place[1].endswith(own)]


def test_a_calibration_has_a_page_of_its_own(view: ReportView, tmp_path: Path) -> None:
    known = Estimate(0.5, 0.1, 0.9)
    agreements = tuple(
        Agreement("proxy", rung, by, known, known, 1.0) for rung in (0, 1) for by in ("accuracy", "loss")
    )
    found = Calibration((), {}, agreements, "cpu", "0")
    text = page([replace(view, trials=(), best=None, importance={}, tallies={}, calibration=found)])
    assert "A calibration: 0 networks" in text and "Networks</h2>" not in text
    assert set(embedded(text)) == {"calibration0"}


def test_a_run_without_trials_has_a_page(view: ReportView) -> None:
    empty = replace(view, trials=(), best=None, importance={}, tallies={})
    assert "No network has been trained" in page([empty])


def test_report_and_diagram_from_the_command_line(result: Result, here: Path) -> None:
    assert result.path
    assert nas("report", result.path).stdout == f"{result.path / 'report.html'}\n"
    assert (result.path / "report.html").read_text().startswith("<!doctype html>")
    assert nas_here("diagram", "lowres-mobilenet").returncode == 0
    assert (here / "lowres-mobilenet.svg").read_text().startswith("<svg")
    assert nas_here("diagram", "lowres-mobilenet", "--to", "x.png").returncode == 0
    assert (here / "x.png").read_bytes().startswith(b"\x89PNG")
    for args, message in (
        (("report", "nowhere"), "nowhere is no run"),
        (("report", result.path, "--to", "no/where.html"), "no/where.html cannot be written"),
        (("diagram", "lowres-mobilenet", "--to", "x.gif"), "must end in .svg or .png"),
        (("diagram", "lowres"), "network 'lowres' is unknown"),
        (("dashboard", "nowhere"), "nowhere is no run"),
    ):
        done = nas_here(*args)
        assert done.returncode in (1, 2) and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ANCHORS)
def test_every_anchor_can_be_drawn(name: str) -> None:
    import xml.etree.ElementTree as ET

    picture = ET.fromstring(svg(ANCHORS[name].arch, f"<{name}>"))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == f"<{name}>" and len(list(picture.iter("{http://www.w3.org/2000/svg}g"))) >= 5


def test_a_result_shows_itself(result: Result) -> None:
    shown = result._repr_html_()
    assert "<table>" in shown and f"{len(result.trials)} trials" in shown and "lowres-mobilenet" in shown
    frame = result.frame()
    assert len(frame) == len(result.trials) and frame["macs"].max() == max(t.cost.macs for t in result.trials)


def test_the_dashboard_opens_a_run_as_it_is(result: Result) -> None:
    pytest.importorskip("optuna_dashboard")
    import socket
    import sys
    from urllib.request import urlopen

    assert result.path
    before = (result.path / "trials.jsonl").read_bytes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-m", "nas", "dashboard", str(result.path), "--port", str(port)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment
    )
    assert process.stdout
    try:
        said = next((line for line in process.stdout if "Listening" in line), "")
        assert f"http://127.0.0.1:{port}/" in said
        studies = None
        while studies is None:  # it says so a moment before it does
            try:
                with urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=60) as answer:
                    studies = json.load(answer)["study_summaries"]
            except OSError:
                assert process.poll() is None
    finally:
        os.killpg(process.pid, 9)
        process.stdout.close()
        process.wait()
    assert [study["study_name"] for study in studies] == ["nas"]
    assert (result.path / "trials.jsonl").read_bytes() == before
