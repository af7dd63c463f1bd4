"""`nas train`, `nas export` and `nas measure`: argv -> the Python call of that name -> a table or JSON."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.errors import fail, keeping, named_run, only_how, refusing, written
from nas.cli.options import Balance, Channels, Data, Device, Groups, NoFlip, SkipBad
from nas.records.datasets import DATASETS
from nas.records.results import FORMATS, USUAL
from nas.records.run_folder import Run


def train(
    context: typer.Context,
    network: Annotated[
        str | None, typer.Argument(help="An anchor (see nas anchors), an arch.json, a search's folder, or RUN/ID.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(DATASETS)}; by default the search's."),
    ] = None,
    data: Data = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images, 8 to 512, for a published network.")
    ] = None,
    no_flip: NoFlip = False,
    groups: Groups = None,
    skip_bad: SkipBad = False,
    channels: Channels = None,
    balance: Balance = False,
    recipe: Annotated[str, typer.Option(help="quick, paper, paper-augmented, plain or strong.")] = "quick",
    epochs: Annotated[int | None, typer.Option(help="By default the recipe's.")] = None,
    decay: Annotated[
        str | None,
        typer.Option(help="What decays: all, or kernels (not depthwise, batch norm, biases); by default the recipe's."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Images at a time, for which learning rates grow; by default the recipe's."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Trainings, each from scratch; mean and standard deviation are printed.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="The first seed, of weights and batches.")] = 0,
    all_images: Annotated[
        bool, typer.Option("--all-images", help="Train on the validation images too; nothing is validated.")
    ] = False,
    teacher: Annotated[
        Path | None, typer.Option(help="Learn from a trained network too: a training's folder, or its weights.")
    ] = None,
    device: Device = None,
    workers: Annotated[
        int | None, typer.Option(help="Seeds side by side; by default one a core, or as a GPU has room.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the training in this folder: runs/NAME.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network in full, and look at the test images once.

    Example: [bold]nas train runs/cifar10-25MFLOPs --recipe plain --seeds 3[/bold]
    """
    with keeping("train", refuses=True) as folder:
        if resume:
            only_how(context, {"resume", "data", "device", "workers", "json", "quiet"})
        path = named_run(run)

        import nas
        from nas.reports.live_progress import pictures_read, training_progress
        from nas.reports.training_tables import print_training

        with training_progress(quiet, folder, device) as (started, watch):
            one = nas.train(
                network,
                dataset,
                data=data,
                resolution=resolution,
                flip=not no_flip,
                groups=groups,
                skip_bad=skip_bad,
                channels=channels,
                balance=balance,
                recipe=recipe,
                epochs=epochs,
                decay=decay,
                batch=batch,
                seeds=seeds,
                seed=seed,
                all_images=all_images,
                teacher=teacher,
                run=path,
                resume=resume,
                device=device,
                workers=workers,
                read=pictures_read(quiet),
                started=started,
                watch=watch,
            )
    print_training(Run(folder[0]), one.training_plan, one.outcome, None, json)


def export(
    network: Annotated[
        str, typer.Argument(help="A training's folder (see nas train), its weights.safetensors, or an arch.json.")
    ],
    weights: Annotated[Path | None, typer.Option(help="Weights of that architecture, as safetensors.")] = None,
    formats: Annotated[str, typer.Option(help=f"{', '.join(FORMATS)}; joined with commas.")] = ",".join(USUAL),
    to: Annotated[
        Path | None, typer.Option(help="Folder to write; by default export/ in the training's, or beside the weights.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What it was trained for, where the weights do not say so.")
    ] = None,
    data: Data = None,
    int8_loss: Annotated[float, typer.Option(help="Points of top-1 that int8 may lose.")] = 0.5,
    seconds: Annotated[float, typer.Option(help="For measuring the latency of each file; 0: not measured.")] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print what was seen as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Write a trained network as files that run without nas, each verified on the test images.

    Example: [bold]nas export runs/lowres-mobilenet-cifar10-quick[/bold]
    """
    import nas
    from nas.reports.live_progress import export_progress
    from nas.reports.training_tables import print_export

    folder: list[Path] = []
    with refusing(), export_progress(quiet) as watch:
        try:
            done = nas.export(
                network,
                weights,
                formats=formats,
                to=to,
                dataset=dataset,
                data=data,
                int8_loss=int8_loss,
                seconds=seconds,
                started=folder.append,
                watch=watch,
            )
        except (OSError, KeyboardInterrupt) as error:
            if not folder:
                raise
            whole = f"{folder[0]} is whole where it has export.json"
            if isinstance(error, KeyboardInterrupt):
                fail(f"interrupted; {whole}", 130)
            fail(f"{folder[0]} cannot be written: {error.strerror or error}; it is whole where it has export.json", 1)
    print_export(done.folder, done.found, json)
    for form, reason in done.found.failed.items():
        print(f"nas: error: {form} is not exported: {reason}", file=sys.stderr)
    if done.found.failed:
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
        typer.Option(
            help="Takes a graph on standard input, prints what agent.py prints: 'ssh pi python3 agent.py'. Or, for "
            "boards, with {tflite} in it: takes that file, prints milliseconds."
        ),
    ] = None,
    reference: Annotated[str, typer.Option(help="The network that runs in turn with each.")] = "lowres-mobilenet",
    threads: Annotated[int, typer.Option(help="Threads that a network runs on.")] = 1,
    batch: Annotated[int, typer.Option(help="Images at a time.")] = 1,
    seconds: Annotated[float, typer.Option(help="For each network, at the most, but for six rounds.")] = 10.0,
    precision: Annotated[float, typer.Option(help="Half the width of the interval that is narrow enough.")] = 0.01,
    timeout: Annotated[
        float, typer.Option(help="Seconds beyond those of measuring, after which a device is given up.")
    ] = 120.0,
    energy: Annotated[bool, typer.Option("--energy", help="Energy an image and mean power, where counted.")] = False,
    write_agent: Annotated[
        Path | None, typer.Option(help="Write agent.py, which measures on another machine, to this file, and end.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep each figure in its run's folder, where nas compare finds it.")
    ] = False,
    write_layers: Annotated[
        Path | None,
        typer.Option(help="Write all different layers as int8 .tflite files, and layers.csv, to this folder, and end."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Such a layers.csv with ms filled in: networks take the sums of their layers.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure how long networks take for a batch, each in turn with a reference network.

    Example: [bold]nas measure tailored-mobilenetv2 runs/cifar10-25MFLOPs[/bold]
    """
    from nas.execution import agent

    if write_agent:
        message = f"{write_agent}: python {write_agent} network.onnx; it needs numpy and onnxruntime"
        written(write_agent, Path(agent.__file__).read_bytes(), message)
        return

    import nas
    from nas.records.plan import Meter
    from nas.records.run_folder import RunFailed
    from nas.records.timing import Measurement
    from nas.reports.live_progress import measurement_progress
    from nas.reports.training_tables import print_measured

    rows: list[Measurement] = []
    asked: list[int] = []
    with refusing():
        meter = Meter(reference, device, measure_command, runtime, threads, batch, seconds, precision, timeout)
    ended = ""
    with refusing(), measurement_progress(quiet, asked) as watch:
        try:
            nas.measure(
                networks or (),
                anchors=anchors,
                resolution=resolution,
                runtime=runtime,
                device=device,
                measure_command=measure_command,
                reference=reference,
                threads=threads,
                batch=batch,
                seconds=seconds,
                precision=precision,
                timeout=timeout,
                energy=energy,
                keep=keep,
                write_layers=write_layers,
                table=table,
                started=asked.append,
                watch=watch,
                measured=rows.append,
            )
        except KeyboardInterrupt:
            ended = f"interrupted after {len(rows)} of {sum(asked)} networks"
        except (RunFailed, OSError) as error:
            ended = str(error)
    if write_layers and not ended:
        print(f"{write_layers}/layers.csv: measure its files, fill in its column ms, then give it as --table")
        return
    print_measured(rows, None if table else meter, json)
    if ended:
        fail(ended, 130 if ended.startswith("interrupted") else 1)
