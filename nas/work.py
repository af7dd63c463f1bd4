"""The commands that train, measure and take home; heavy imports inside them."""

import math
import sys
import time
from pathlib import Path
from typing import Annotated, get_args

import typer

from nas.conditions import cores
from nas.guard import at_least_one, fail, given, interruptible, keeping, one_of, only_how, refusing
from nas.outcome import USUAL
from nas.plan import TRIALS

HOW = ("workers", "ray_address", "cpus", "gpus", "time_limit")  # options that do not change what is found


def search(
    context: typer.Context,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Upper limits that every network keeps: 25MFLOPs, 0.4MParams, 128KBpeak, 1.5ms, an anchor's name for "
            "what that network costs, 0.8xANCHOR:ms; join with commas or repeat."
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="digits, cifar10, cifar100, or folder:PATH.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    no_flip: Annotated[
        bool, typer.Option("--no-flip", help="Mirror no images in training: letters, signs, left and right.")
    ] = False,
    space: Annotated[str, typer.Option(help="Search space: lightweight or lowres.")] = "lightweight",
    device: Annotated[
        str | None,
        typer.Option(help="Where latency is measured: here, ray:NAME, or any name for what --measure-command reaches."),
    ] = None,
    measure_command: Annotated[
        str | None,
        typer.Option(help="Takes a graph on standard input, prints what agent.py prints: 'ssh pi python3 agent.py'."),
    ] = None,
    measure_threads: Annotated[int, typer.Option(help="Threads that a network runs on when measured.")] = 1,
    trials: Annotated[
        int, typer.Option(help="Networks to train, anchors among them; with --resume, more than the run was to have.")
    ] = TRIALS,
    seed: Annotated[int, typer.Option(help="Seed of proposals, weights and batches.")] = 0,
    objective: Annotated[
        str, typer.Option(help="accuracy, or a front of it against macs, params, peak or latency: accuracy,macs.")
    ] = "accuracy",
    proposals: Annotated[
        str, typer.Option(help="surrogate: what earlier networks promise; random: chance alone, to compare with.")
    ] = "surrogate",
    workers: Annotated[
        int | None,
        typer.Option(help="Trainings side by side, one thread each; by default one a core. One needs no Ray."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster to train on: auto, or HOST:PORT.")
    ] = None,
    cpus: Annotated[float, typer.Option(help="CPUs that a worker takes, on Ray.")] = 1.0,
    gpus: Annotated[
        float | None,
        typer.Option(help="GPUs that a worker takes, on Ray; 0.5: two share one; 0: the CPU. By default a share."),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="End in time with what is there: 90s, 30m, 2h. It can be resumed.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder: runs/NAME.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Search for the network with the best validation accuracy under a budget.

    Example: [bold]nas search --budget 25MFLOPs --dataset cifar10[/bold]
    """
    from nas.request import created, planned, resumed, search_meter, seconds

    with refusing():
        if resume:
            only_how(context, {"resume", "data", "trials", "json", "quiet", *HOW})
        at_least_one(workers)
        deadline = time.monotonic() + seconds(time_limit)
        if resume:
            folder, plan, where = resumed(resume, data, trials if "trials" in given(context) else None)
        else:
            names = tuple(objective.replace(" ", "").split(","))
            asked = device is not None or measure_command is not None or measure_threads != 1
            meter = search_meter(device or "here", measure_command, measure_threads) if asked else None
            limits = budget or []
            plan, where = planned(limits, dataset, data, space, trials, seed, names, run, not no_flip, meter, proposals)
            folder = created(plan, limits, run)

    from nas.account import Halt
    from nas.api import crew, trainer
    from nas.live import progress
    from nas.names import anchors_for
    from nas.request import measure_for
    from nas.screen import print_result
    from nas.waves import search as run_waves
    from search_spaces import BASELINE

    halt = Halt(deadline=deadline)
    with (
        keeping("search", folder),
        interruptible(halt),
        crew(trainer(plan), workers, ray_address, cpus, gpus) as hands,
        progress(quiet, folder, plan) as watch,
    ):
        found = run_waves(plan, where, anchors_for(plan), folder, hands, watch, halt, measure=measure_for(plan))
    print_result(folder, plan, found.trials, found.best, BASELINE, json)
    if halt.asked:
        raise typer.Exit(130)


def calibrate(
    context: typer.Context,
    trained: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of full trainings, which then are what the short ones are held against."),
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="Limits that the networks keep, as given to nas search.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="digits, cifar10, cifar100, or folder:PATH.")] = "digits",
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    no_flip: Annotated[
        bool, typer.Option("--no-flip", help="Mirror no images in training: letters, signs, left and right.")
    ] = False,
    space: Annotated[str, typer.Option(help="Search space: lightweight or lowres.")] = "lightweight",
    networks: Annotated[int, typer.Option(help="How many networks, Low-res MobileNet among them.")] = 10,
    proxy: Annotated[
        list[str] | None, typer.Option(help="To compare: proxy, short or half; by default the first two.")
    ] = None,
    images: Annotated[int, typer.Option(help="Training images of the longer training.")] = 40_000,
    epochs: Annotated[int, typer.Option(help="Epochs of the longer training.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of networks, weights and batches.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Trainings side by side; by default one a core.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the calibration in this folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure how well the search's short trainings rank networks, against longer ones.

    Example: [bold]nas calibrate --budget 25MFLOPs --dataset cifar10[/bold], or, where networks were trained in full
    before, [bold]nas calibrate runs/A runs/B runs/C[/bold]
    """
    from nas.names import first_of
    from nas.request import calibration_against, calibration_begun, calibration_resumed

    with refusing():
        at_least_one(workers)
        if resume:
            only_how(context, {"resume", "data", "workers", "json", "quiet"})
            folder, plan, where, recipes = calibration_resumed(resume, data)
        elif trained:
            known = {"trained", "proxy", "seed", "run", "data", "workers", "json", "quiet"}
            only_how(context, known, "full trainings say themselves which networks and images")
            folder, plan, where, recipes = calibration_against(trained, data, proxy or [], seed, run)
        else:
            folder, plan, where, recipes = calibration_begun(
                budget or [], dataset, data, space, networks, proxy or [], images, epochs, seed, run, not no_flip
            )

    from nas.account import Halt
    from nas.api import crew, trainers
    from nas.calibrate import calibrate as run_calibration
    from nas.calibrate import networks_of
    from nas.findings import Calibration
    from nas.live import counting
    from nas.runs import read_value
    from nas.verdict import print_calibration

    found = read_value(folder, "calibration", Calibration)
    if found is None:
        halt = Halt()
        with refusing():
            candidates = networks_of(plan, where, recipes, first_of(plan))
        with (
            keeping("calibrate", folder),
            interruptible(halt),
            crew(trainers(plan, recipes.recipes), workers, limit=math.inf) as hands,
            counting(quiet, folder) as watch,
        ):
            found = run_calibration(candidates, recipes, folder, hands, watch, halt)
            if found is None:
                raise KeyboardInterrupt
    print_calibration(str(folder.path), plan, recipes, found, json)


def train(
    context: typer.Context,
    network: Annotated[
        str | None, typer.Argument(help="An anchor (see nas anchors), an arch.json, a search's folder, or RUN/ID.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits, cifar10, cifar100, or folder:PATH; by default the search's, or digits.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    no_flip: Annotated[
        bool, typer.Option("--no-flip", help="Mirror no images in training: letters, signs, left and right.")
    ] = False,
    recipe: Annotated[str, typer.Option(help="quick, paper, paper-augmented, plain or strong.")] = "quick",
    epochs: Annotated[int | None, typer.Option(help="By default the recipe's.")] = None,
    decay: Annotated[
        str | None,
        typer.Option(help="What decays: all, or kernels (not depthwise, batch norm, biases); by default the recipe's."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings, each from scratch; mean and standard deviation are told.")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed, of weights and batches.")] = 0,
    all_images: Annotated[
        bool, typer.Option("--all-images", help="Train on the validation images too; nothing is validated.")
    ] = False,
    teacher: Annotated[
        Path | None, typer.Option(help="Learn from a trained network too: a training's folder, or its weights.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Seeds side by side on the CPU, one thread each; by default one a core.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the training in this folder: runs/NAME.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network in full, and look at the test images once.

    Example: [bold]nas train runs/cifar10-25MFLOPs --recipe plain --seeds 3[/bold]
    """
    from nas.recipes import Decay
    from nas.request import course_begun, course_resumed

    with refusing():
        at_least_one(workers)
        if resume:
            only_how(context, {"resume", "data", "workers", "json", "quiet"})
            folder, course = course_resumed(resume, data)
        elif network is None:
            raise ValueError("name a network: an anchor, an arch.json, a search's folder or RUN/ID; or give --resume")
        else:
            what = one_of(get_args(Decay), decay, "decay")
            folder, course = course_begun(
                network, dataset, data, recipe, epochs, what, seeds, seed, all_images, teacher, run, not no_flip
            )

    from nas.api import crew
    from nas.course import Lesson
    from nas.course import train as run_course
    from nas.live import training
    from nas.screen import print_outcome
    from nas.train import device

    side_by_side = 1 if device().type == "cuda" else min(workers or cores(), len(course.seeds))
    lesson = Lesson(course, folder.path.absolute())
    with keeping("train", folder), refusing():
        with crew(lesson, side_by_side, limit=math.inf) as hands, training(quiet, folder, course) as watch:
            outcome = run_course(folder, course, hands, watch)
    print_outcome(folder, course, outcome, None, json)


def export(
    network: Annotated[
        str, typer.Argument(help="A training's folder (see nas train), its weights.safetensors, or an arch.json.")
    ],
    weights: Annotated[Path | None, typer.Option(help="Weights of that architecture, as safetensors.")] = None,
    formats: Annotated[
        str, typer.Option(help="python, onnx, onnx-int8, pt2, executorch; joined with commas.")
    ] = ",".join(USUAL),
    to: Annotated[
        Path | None, typer.Option(help="Folder to write; by default export/ in the training's, or beside the weights.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What it was trained for, where the weights do not say so.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")] = None,
    int8_loss: Annotated[float, typer.Option(help="Points of top-1 that int8 may lose.")] = 0.5,
    seconds: Annotated[float, typer.Option(help="For measuring the latency of each file; 0: not measured.")] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print what was seen as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Write a trained network as files that run without nas, each verified on the test images.

    Example: [bold]nas export runs/lowres-mobilenet-cifar10-quick[/bold]
    """
    from nas.outcome import FORMATS
    from nas.recall import trained

    with refusing():
        names = list(dict.fromkeys(formats.replace(" ", "").split(",")))
        for name in names:
            one_of(tuple(FORMATS), name, "format")
        taken = trained(network, weights, dataset, data, to)

    from nas.live import working
    from nas.screen import print_export
    from nas.takehome import check_free, deliver

    with refusing(), working(quiet) as watch:
        if to or taken.course is None:  # else it is the export folder of a training of ours
            check_free(taken.export)
        try:
            exported = deliver(taken, names, seconds, int8_loss, watch)
        except OSError as error:
            fail(
                f"{taken.export} cannot be written: {error.strerror or error}; it is whole where it has export.json",
                1,
            )
        except KeyboardInterrupt:
            fail(f"interrupted; {taken.export} is whole where it has export.json", 130)
    print_export(taken.export, exported, json)
    for form, reason in exported.failed.items():
        print(f"nas: error: {form} is not delivered: {reason}", file=sys.stderr)
    if exported.failed:
        raise typer.Exit(1)


def measure(
    networks: Annotated[
        list[str] | None, typer.Argument(help="Anchors (see nas anchors), arch.json files, runs' folders, or RUN/ID.")
    ] = None,
    anchors: Annotated[
        bool, typer.Option("--anchors", help="All anchors made for images of --resolution, 32 by default.")
    ] = False,
    resolution: Annotated[int | None, typer.Option(help="Side of the images; by default each network's own.")] = None,
    runtime: Annotated[
        str, typer.Option(help="onnxruntime, torch, compiled (torch.compile), cuda or cuda-compiled.")
    ] = "onnxruntime",
    device: Annotated[
        str, typer.Option(help="here, ray:NAME, or any name for what --measure-command reaches.")
    ] = "here",
    measure_command: Annotated[
        str | None,
        typer.Option(help="Takes a graph on standard input, prints what agent.py prints: 'ssh pi python3 agent.py'."),
    ] = None,
    reference: Annotated[str, typer.Option(help="The network that runs in turn with each.")] = "lowres-mobilenet",
    threads: Annotated[int, typer.Option(help="Threads that a network runs on.")] = 1,
    batch: Annotated[int, typer.Option(help="Images at a time.")] = 1,
    seconds: Annotated[float, typer.Option(help="For each network, at the most, but for six rounds.")] = 10.0,
    precision: Annotated[float, typer.Option(help="Half the width of the interval that is narrow enough.")] = 0.01,
    timeout: Annotated[
        float, typer.Option(help="Seconds beyond those of measuring, after which a device is taken for dead.")
    ] = 120.0,
    energy: Annotated[bool, typer.Option("--energy", help="Energy an image and mean power, where counted.")] = False,
    write_agent: Annotated[
        Path | None, typer.Option(help="Write agent.py, which measures on another machine, to this file, and end.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep each figure in its run's folder, where nas compare finds it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure how long networks take for a batch, each in turn with a reference network.

    Example: [bold]nas measure tailored-mobilenetv2 runs/cifar10-25MFLOPs[/bold]
    """
    from nas import agent

    if write_agent:
        try:
            write_agent.write_bytes(Path(agent.__file__).read_bytes())
        except OSError as error:
            fail(f"{write_agent} cannot be written: {error.strerror}", 1)
        print(f"{write_agent}: python {write_agent} network.onnx; it needs numpy and onnxruntime", file=sys.stderr)
        return

    from nas.names import anchor_names, architecture
    from nas.plan import Meter

    with refusing():
        meter = Meter(reference, device, measure_command, runtime, threads, batch, seconds, precision, timeout)
        names = [*(networks or []), *(anchor_names(resolution) if anchors else [])]
        if not names:
            raise ValueError("name a network: an anchor, an arch.json, a run's folder or RUN/ID; or give --anchors")
        if keep and (strays := [name for name in names if not (Path(name) / "course.json").is_file()]):
            raise ValueError(f"--keep is for folders of full trainings; {strays[0]} is none")
        if keep and resolution:
            raise ValueError("--keep is for networks as they were trained; leave out --resolution")
        archs = [architecture(name, resolution, None) for name in names]
        beside = [architecture(reference, arch.resolution, arch.classes) for arch in archs]

    from nas.latency import energy_of, measured
    from nas.live import measuring
    from nas.runs import Run, RunFailed, write_value
    from nas.screen import Figures, print_measured

    rows = []
    with measuring(quiet, len(names)) as watch:
        for name, arch, other in zip(names, archs, beside, strict=True):
            watch(name)
            try:
                with refusing():
                    rows.append(Figures(name, arch, measured(arch, other, meter), energy_of(arch, meter, energy)))
                if keep:
                    write_value(Run(Path(name)), "latency", rows[-1].latency)
            except KeyboardInterrupt:
                break
            except (RunFailed, OSError) as error:
                print_measured(rows, meter, json)
                fail(str(error), 1)
    print_measured(rows, meter, json)
    if len(rows) < len(names):
        fail(f"interrupted after {len(rows)} of {len(names)} networks", 130)
