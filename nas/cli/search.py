"""`nas search` and `nas calibrate`: argv -> the Python call of that name -> a table or JSON."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.errors import interruptible, keeping, named_run, only_how
from nas.cli.options import Balance, Channels, Data, Device, Groups, NoFlip, Resolution, SkipBad
from nas.records.datasets import DATASETS
from nas.records.run_folder import Run

HOW = (
    "device",
    "workers",
    "ray_address",
    "cpus",
    "gpus",
    "time_limit",
    "trial_timeout",
    "log",
)  # options that do not change what is found


def search(
    context: typer.Context,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Upper limits that every network keeps: 25MFLOPs, 0.4MParams, 128KBpeak, 128KBarena, 256KBflash, "
            "1.5ms, an anchor's name for "
            "what that network costs, 0.8xANCHOR:ms; join with commas or repeat."
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help=f"{', '.join(DATASETS)}.")] = "digits",
    data: Data = None,
    resolution: Resolution = None,
    no_flip: NoFlip = False,
    groups: Groups = None,
    skip_bad: SkipBad = False,
    channels: Channels = None,
    balance: Balance = False,
    space: Annotated[
        str, typer.Option(help="Search space: lightweight, lowres, a paper's (see nas space), or FILE.py:NAME.")
    ] = "lightweight",
    measure_device: Annotated[
        str,
        typer.Option(help="Where latency is measured: here, ray:NAME, or any name for what --measure-command reaches."),
    ] = "here",
    measure_command: Annotated[
        str | None,
        typer.Option(
            help="Takes a graph on standard input, prints what agent.py prints: 'ssh pi python3 agent.py'. Or, for "
            "boards, with {tflite} in it: takes that file, prints milliseconds."
        ),
    ] = None,
    measure_runtime: Annotated[
        str, typer.Option(help="What measures: onnxruntime, torch, compiled, cuda or cuda-compiled.")
    ] = "onnxruntime",
    measure_threads: Annotated[int, typer.Option(help="Threads that a network runs on when measured.")] = 1,
    measure_batch: Annotated[int, typer.Option(help="Images at a time when measured.")] = 1,
    start: Annotated[
        list[str] | None,
        typer.Option(
            help="A network of your own to begin with: arch.json, a run, RUN/ID or an anchor; or the nearest point. "
            "Repeat for more."
        ),
    ] = None,
    warm_start: Annotated[
        Path | None, typer.Option(help="An earlier search, runs/NAME, whose results are known from the beginning.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Networks to train, anchors among them; with --resume, more than the run was to have."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of proposals, weights and batches.")] = 0,
    reproducible: Annotated[
        bool | None,
        typer.Option(
            "--reproducible/--asynchronous",
            help="The same networks for the same seed; or no worker waits for another, as where there are many.",
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="accuracy, or a front of it against macs, params, peak or latency: accuracy,macs.")
    ] = "accuracy",
    sampler: Annotated[
        str,
        typer.Option(help="Who proposes networks: gp (ours), tpe, nsgaii, random, qmc, or MODULE:NAME, for Optuna."),
    ] = "gp",
    device: Device = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Trainings side by side; by default one a core, or as a GPU has room. One needs no Ray."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster to train on: auto, or HOST:PORT.")
    ] = None,
    cpus: Annotated[float, typer.Option(help="CPUs that a worker takes, on Ray.")] = 1.0,
    gpus: Annotated[
        float | None,
        typer.Option(help="GPUs that a worker takes; 0.25: four share one; 0: the CPU. By default a share."),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="End in time with what is there: 90s, 30m, 2h. It can be resumed.")
    ] = None,
    trial_timeout: Annotated[
        str | None, typer.Option(help="End a training of a network that takes longer; it has failed: 10m, 1h.")
    ] = None,
    log: Annotated[
        str | None, typer.Option(help="Follow it in mlflow or wandb-offline too, in the run's folder.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder in runs/; by default made up.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder: runs/NAME.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Search for the network with the best validation accuracy under a budget.

    Example: [bold]nas search --budget 25MFLOPs --dataset cifar10[/bold]
    """
    with keeping("search") as folder:
        if resume:
            only_how(context, {"resume", "data", "trials", "json", "quiet", *HOW})
        path = named_run(run)

        import nas
        from nas.reports.live_progress import pictures_read, search_progress
        from nas.reports.search_table import print_result
        from nas.search_strategy.progress import Halt
        from search_spaces import BASELINE

        halt = Halt()
        with interruptible(halt), search_progress(quiet, folder, device, ray_address) as (started, watch):
            result = nas.search(
                space,
                budget,
                dataset=dataset,
                data=data,
                resolution=resolution,
                flip=not no_flip,
                groups=groups,
                skip_bad=skip_bad,
                channels=channels,
                balance=balance,
                start=start or (),
                warm_start=warm_start,
                trials=trials,
                seed=seed,
                reproducible=reproducible,
                objective=objective,
                sampler=sampler,
                measure_device=measure_device,
                measure_command=measure_command,
                measure_runtime=measure_runtime,
                measure_threads=measure_threads,
                measure_batch=measure_batch,
                run=path,
                resume=resume,
                device=device,
                workers=workers,
                ray_address=ray_address,
                cpus=cpus,
                gpus=gpus,
                time_limit=time_limit,
                trial_timeout=trial_timeout,
                log=log,
                halt=halt,
                read=pictures_read(quiet),
                started=started,
                watch=watch,
            )
    print_result(Run(folder[0]), result.plan, list(result.trials), result.best, BASELINE, json)
    if halt.asked:
        raise typer.Exit(130)


def calibrate(
    context: typer.Context,
    trained: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of full trainings, which then are what the short ones are compared with."),
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="Limits that the networks keep, as given to nas search.")
    ] = None,
    dataset: Annotated[str, typer.Option(help=f"{', '.join(DATASETS)}.")] = "digits",
    data: Data = None,
    resolution: Resolution = None,
    no_flip: NoFlip = False,
    groups: Groups = None,
    skip_bad: SkipBad = False,
    channels: Channels = None,
    space: Annotated[
        str, typer.Option(help="Search space: lightweight, lowres, a paper's (see nas space), or FILE.py:NAME.")
    ] = "lightweight",
    networks: Annotated[int, typer.Option(help="How many networks, Low-res MobileNet among them.")] = 10,
    proxy: Annotated[
        list[str] | None, typer.Option(help="To compare: proxy, short or half; by default the first two.")
    ] = None,
    images: Annotated[int, typer.Option(help="Training images of the longer training.")] = 40_000,
    epochs: Annotated[int, typer.Option(help="Epochs of the longer training.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of networks, weights and batches.")] = 0,
    device: Device = None,
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
    with keeping("calibrate") as folder:
        if resume:
            only_how(context, {"resume", "data", "device", "workers", "json", "quiet"})
        elif trained:
            known = {"trained", "proxy", "seed", "run", "data", "device", "workers", "json", "quiet"}
            only_how(context, known, "full trainings say themselves which networks and images")
        path = named_run(run)

        import nas
        from nas.reports.comparison_tables import print_calibration
        from nas.reports.live_progress import calibration_progress, pictures_read
        from nas.search_strategy.progress import Halt

        halt = Halt()
        with interruptible(halt), calibration_progress(quiet, folder, device) as (started, watch):
            one = nas.calibrate(
                trained or (),
                budget,
                dataset=dataset,
                data=data,
                resolution=resolution,
                flip=not no_flip,
                groups=groups,
                skip_bad=skip_bad,
                channels=channels,
                space=space,
                networks=networks,
                proxies=proxy or (),
                images=images,
                epochs=epochs,
                seed=seed,
                run=path,
                resume=resume,
                device=device,
                workers=workers,
                halt=halt,
                read=pictures_read(quiet),
                started=started,
                watch=watch,
            )
    print_calibration(one.folder, one.plan, one.recipes, one.found, json)
