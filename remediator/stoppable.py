"""Blocking work that ends in order when its caller is cancelled, so that what it leaves is known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from remediator.offload import offload

A = ParamSpec("A")
R = TypeVar("R")

ENDS_WITHIN_SECONDS = 60.0
"""How long a cancelled caller waits for the work to come to an end. A choice of ours."""


class Stopped(Exception):
    """Raised inside the work by `Stop.check` once nobody waits for it any more; the work cleans up and ends."""


class Stop:
    """Whether the caller has gone."""

    def __init__(self) -> None:
        self._gone = threading.Event()

    def ask(self) -> None:
        """Have the work end at its next check."""
        self._gone.set()

    def check(self) -> None:
        """Raise Stopped where the work should end; called where nothing is half done."""
        if self._gone.is_set():
            raise Stopped


async def stoppable(call: Callable[Concatenate[Stop, A], R], *args: A.args, **kwargs: A.kwargs) -> R:
    """Run a blocking call on the pool; it is given a Stop, and asked to end when the caller is cancelled.

    The cancellation goes on only once the call has ended (or did not within a minute).
    """
    stop = Stop()
    work = asyncio.ensure_future(offload(lambda: call(stop, *args, **kwargs)))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.ask()
        await asyncio.wait({work}, timeout=ENDS_WITHIN_SECONDS)
        if work.done() and not work.cancelled():
            work.exception()  # looked at, so that asyncio does not call it lost
        raise
