"""`nas predict`: argv -> the Python call of that name -> a table or JSON."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.errors import refusing


def predict(
    network: Annotated[
        str,
        typer.Argument(help="A training's folder (see nas train), an export's, or weights.safetensors."),
    ],
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, and folders of pictures.")],
    top: Annotated[int, typer.Option(help="Classes of each picture, the likeliest first.")] = 5,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without pictures that cannot be read.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """Say of which class pictures are.

    Example: [bold]nas predict runs/mine-trained photo.jpg more-photos/[/bold]
    """
    import nas
    from nas.reports.training_tables import print_predictions

    with refusing():
        found = nas.predict(network, pictures, top=top, skip_bad=skip_bad)
    print_predictions(found, json)
