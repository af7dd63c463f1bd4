"""`python -m nas`."""

from nas.cli import app

app()
