"""Programs of others: started from an argv list with an environment of their own, bounded, and gone when we leave."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remediator.errors import PermanentFailure
from remediator.redaction import Redactor

_TOLD_CHARACTERS = 500
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "TMPDIR")
_TO_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How it ended; `status` is None where it was ended because its time was over."""

    status: int | None
    out: str
    told: str
    """The end of what it wrote to its standard error, without secrets."""


async def run(argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> Finished:
    """Run a program to its end, or for so many seconds. Our own environment is not passed on: it has secrets.

    Raises:
        PermanentFailure: when it is not installed.
    """
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={**passed, **(env or {})}
        )
    except (FileNotFoundError, PermissionError) as error:
        raise PermanentFailure(f"{argv[0]} cannot be run here: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            out, told = await process.communicate()
    except TimeoutError:
        return Finished(None, "", f"{argv[0]} took longer than {seconds:g} s")
    finally:
        await _end(process)
    lines = told.decode("utf-8", errors="replace").strip()[-_TOLD_CHARACTERS:]
    return Finished(process.returncode, out.decode("utf-8", errors="replace"), Redactor()(lines))


async def _end(process: Process) -> None:
    """End it if it still runs: in order if it will, so that it leaves nothing half done."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_TO_END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
