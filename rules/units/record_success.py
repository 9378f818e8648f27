#!/usr/bin/env python3
"""Record that a prepared unit did its work: one file for node_exporter's textfile collector.

    record_success.py FOLDER SYSTEM --task TASK [--task TASK ...] [--data DATA ...]

The last line of a unit: systemd comes here only when all lines before it ended with success. In `ExecStopPost=`, which
also runs after a failure, systemd says how it went, and nothing is recorded then. Needs no package.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

SERIES = {
    "task": "ops_task_last_success_timestamp_seconds",
    "data": "ops_backup_last_success_timestamp_seconds",
}
HELP = {"task": "when the task last succeeded", "data": "when this data was last backed up and checked"}


def name(text: str) -> str:
    """A label's value that needs no quoting, and may stand in a file's name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of small letters, digits and -")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file beside its place and rename it, so that the collector never reads half of it."""
    parser = argparse.ArgumentParser(description="Record that a prepared unit did its work.")
    parser.add_argument("folder", type=Path, help="of the textfile collector")
    parser.add_argument("system", type=name)
    parser.add_argument(
        "--task", type=name, action="append", default=[], help="as the recorded tables name it"
    )
    parser.add_argument(
        "--data", type=name, action="append", default=[], help="as the recorded tables name it"
    )
    told = parser.parse_args(argv)
    if not told.task and not told.data:
        parser.error("name a task or data")
    result = os.environ.get("SERVICE_RESULT", "success")
    if result != "success":
        print(f"not recorded: the unit ended with {result}", file=sys.stderr)
        return 0
    now = time.time()
    for kind, series in SERIES.items():
        for value in getattr(told, kind):
            text = (
                f"# HELP {series} {HELP[kind]}\n# TYPE {series} gauge\n"
                f'{series}{{system="{told.system}",{kind}="{value}"}} {now:.3f}\n'
            )
            _replace(told.folder / f"{told.system}-{kind}-{value}.prom", text)
    return 0


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
        try:
            new.write(text)
            new.flush()
            os.fchmod(new.fileno(), 0o644)
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except OSError:
            Path(new.name).unlink()
            raise


if __name__ == "__main__":
    sys.exit(main())
