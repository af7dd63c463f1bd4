"""`python -m nas`."""

from nas.cli.app import app

app()
