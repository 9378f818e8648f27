"""A bounded pool for the client libraries that only know how to block (docker, boto3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

A = ParamSpec("A")
R = TypeVar("R")

_POOL = ThreadPoolExecutor(max_workers=8, thread_name_prefix="blocking-client")


async def offload(call: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> R:
    """Run a blocking call on the pool.

    A cancelled caller does not stop the call: the client's own timeout bounds it, and what it did is
    found out by looking again.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_POOL, lambda: call(*args, **kwargs))
