"""redis-py, imported when a server is first talked to."""

from typing import TYPE_CHECKING

from remediator.deferred import deferred

if TYPE_CHECKING:
    from redis import asyncio as redis
    from redis import backoff, exceptions
    from redis.asyncio import retry
else:
    redis, exceptions = deferred("redis.asyncio"), deferred("redis.exceptions")
    backoff, retry = deferred("redis.backoff"), deferred("redis.asyncio.retry")

__all__ = ["backoff", "exceptions", "redis", "retry"]
