"""Options that several commands have: of the images that networks are trained on."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Data: TypeAlias = Annotated[Path | None, typer.Option(help="Folder where the dataset lies already; no download.")]
Resolution: TypeAlias = Annotated[
    int | None, typer.Option(help="Side of the images, 8 to 512; by default 32, and what fits a folder's pictures.")
]
NoFlip: TypeAlias = Annotated[
    bool, typer.Option("--no-flip", help="Mirror no images in training: letters, signs, left and right.")
]
Groups: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Of a folder without a split: a pattern with one capture, as '(subject\\d+)'; what it captures alike is "
        "never on two sides."
    ),
]
Channels: TypeAlias = Annotated[
    int | None, typer.Option(help="Of the images: 3, or 1 for gray ones; by default as they are.")
]
Balance: TypeAlias = Annotated[
    bool, typer.Option("--balance", help="Each class counts alike in the loss, however many images it has.")
]
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="Where networks train: cuda, mps or cpu; by default the first that there is.")
]
SkipBad: TypeAlias = Annotated[
    bool, typer.Option("--skip-bad", help="Go on without the pictures of a folder that cannot be read.")
]
