"""The first look: without a Prometheus, a shipped recording plays, so that a plan is on the screen in seconds."""

from __future__ import annotations

import tempfile
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path

from remediator.settings import Settings

RECORDING = "brainstem-cache-hit-rate-low.json"


ENVIRONMENT = {"REMEDIATOR_SERVER__ALLOW_UNAUTHENTICATED": "true"}
"""What a first look is started with where nothing else is set; it holds on loopback alone."""


def prepare(settings: Settings) -> Settings:
    """The settings for a first look.

    Where Prometheus answers they are left as they are. Where it does not, a recording is played against a ledger of
    its own; what it shows is what was recorded, and nothing is touched.
    """
    if settings.recording is None and _answers(f"{settings.prometheus.url}/-/ready"):
        return settings
    folder = Path(tempfile.mkdtemp(prefix="remediator-demo-"))
    recording = settings.recording or Path(str(files("remediator") / "recordings" / RECORDING))
    ledger = settings.ledger.model_copy(update={"url": f"sqlite:///{folder / 'ledger.db'}"})
    log = settings.log.model_copy(update={"level": "warning", "format": "console"})
    return settings.model_copy(update={"recording": recording, "ledger": ledger, "log": log})


def _answers(url: str) -> bool:
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - the scheme was looked at above
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
