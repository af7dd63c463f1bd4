"""`nas show`, `compare`, `importance`, `report` and `dashboard`: argv -> the Python call -> tables, a page or JSON."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.errors import fail, refusing


def show(
    run: Annotated[Path, typer.Argument(help="Folder of the run: runs/NAME.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Print the result of a search or a full training again, finished or not, or of a finished calibration.

    Example: [bold]nas show runs/cifar10-25MFLOPs[/bold]
    """
    import nas
    from nas.records.run_folder import Run
    from nas.reports.comparison import CalibrationRun, SearchRun, TrainedRun
    from nas.reports.comparison_tables import print_calibration
    from nas.reports.search_table import print_result
    from nas.reports.training_tables import print_epochs, print_training
    from search_spaces import BASELINE

    with refusing():
        match nas.show(run):
            case SearchRun() as one:
                print_result(Run(run), one.plan, list(one.trials), one.best, BASELINE, json)
            case CalibrationRun() as one:
                print_calibration(one.folder, one.plan, one.recipes, one.found, json)
            case TrainedRun() as one:
                print_training(Run(run), one.training_plan, one.outcome, one.exported, json)
            case one:
                print_epochs(Run(run), one.training_plan, one.histories, json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches, calibrations and full trainings.")],
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Print runs beside each other: what searches spent and found, and trained networks by their test accuracy.

    Example: [bold]nas compare runs/*[/bold]
    """
    import nas
    from nas.reports.comparison_tables import print_compared
    from search_spaces import BASELINE

    with refusing():
        rows = nas.compare(runs)
    print_compared(rows, BASELINE, json)


def importance(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches: runs/NAME; several beside each other.")],
    json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Print which knobs of the space mattered in searches, and which choices were worth something.

    Example: [bold]nas importance runs/cifar10-25MFLOPs[/bold]
    """
    import nas
    from nas.reports.comparison_tables import print_importance

    with refusing():
        found = nas.importance(runs, axes=json or len(runs) == 1)
        print_importance(found, json)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of searches, or of trainings: runs/NAME.")],
    to: Annotated[
        Path | None, typer.Option(help="File to write; by default report.html in the first run's folder.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Fetch plotly, 5 MB, when the page is opened: it then needs a network.")
    ] = False,
) -> None:
    """Write one page that shows a search or a training, or several; it opens from the file, without a network.

    Example: [bold]nas report runs/cifar10-25MFLOPs[/bold]
    """
    import nas

    with refusing():
        try:
            print(nas.report(runs, to, small=small))
        except OSError as error:
            fail(f"{to or runs[0] / 'report.html'} cannot be written: {error.strerror}", 1)


def dashboard(
    run: Annotated[Path, typer.Argument(help="Folder of the search: runs/NAME.")],
    port: Annotated[int, typer.Option(help="Where it listens, on this machine only.")] = 8080,
) -> None:
    """Open a search in optuna-dashboard, also while it goes on; Ctrl-C ends it.

    Example: [bold]nas dashboard runs/cifar10-25MFLOPs[/bold]
    """
    import nas

    with refusing():
        try:
            command = nas.dashboard(run, port)
        except ImportError as error:
            fail(str(error), 1)
    try:
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
