"""Waiting for something to become true, with a deadline and a reason when it never does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class NeverHappenedError(AssertionError):
    """The deadline passed first. The message says what was awaited and what was last seen."""


def until(look: Callable[[], T], *, within: float = 10.0, every: float = 0.02, what: str = "") -> T:
    """Call `look` until it returns something truthy and return that; `within` and `every` are seconds."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise NeverHappenedError(_complaint(what or look.__qualname__, within, seen))
        time.sleep(every)


async def eventually(
    look: Callable[[], Awaitable[T]], *, within: float = 10.0, every: float = 0.02, what: str = ""
) -> T:
    """Await `look` until it returns something truthy and return that; `within` and `every` are seconds."""
    deadline = time.monotonic() + within
    while True:
        seen = await look()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise NeverHappenedError(_complaint(what or look.__qualname__, within, seen))
        await asyncio.sleep(every)


def _complaint(what: str, within: float, seen: object) -> str:
    return f"{what} did not happen within {within:g} s; last seen: {seen!r}"
