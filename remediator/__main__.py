"""`python -m remediator`."""

from remediator.cli import app

app()
