"""PostgreSQL's own programs: started from an argv list, bounded, and gone when we stop waiting."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence

from remediator.errors import PermanentFailure
from remediator.redaction import Redactor

_TOLD_CHARACTERS = 500


class Failed(Exception):
    """The program ended badly, or took too long."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


async def run(argv: Sequence[str], env: Mapping[str, str], seconds: float) -> str:
    """What it wrote to its standard output.

    Raises:
        Failed: when it ended with another status than 0, or did not end in time.
        PermanentFailure: when it is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env
        )
    except FileNotFoundError as error:
        raise PermanentFailure(
            f"{argv[0]} is not installed beside this service (postgresql-client)"
        ) from error
    try:
        async with asyncio.timeout(seconds):
            out, told = await process.communicate()
    except TimeoutError as error:
        raise Failed(f"{argv[0]} took longer than {seconds:g} s", timed_out=True) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = told.decode("utf-8", errors="replace").strip()[-_TOLD_CHARACTERS:]
        raise Failed(f"{argv[0]} ended with {process.returncode}: {Redactor()(lines)}")
    return out.decode("utf-8", errors="replace")
