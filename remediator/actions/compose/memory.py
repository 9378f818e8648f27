"""How much memory an engine's host has left, as far as the engine can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from remediator.engine import Engine
from remediator.errors import NothingSelected, Refused


async def free_bytes(engine: Engine) -> int:
    """The host's memory less what its containers use now. What else runs on the host is not seen.

    Raises:
        Refused: when the engine does not say: no figure is no permission.
    """
    info = await engine.look(lambda api: api.info(), "the engine says nothing of its host")
    running = await engine.look(lambda api: api.containers(), "there are no containers")
    used = await asyncio.gather(*(_used(engine, one["Id"]) for one in running))
    total = int(info.get("MemTotal") or 0)
    if not total:
        raise Refused("the engine does not say how much memory its host has")
    return total - sum(used)


async def _used(engine: Engine, id_: str) -> int:
    try:
        stats = await engine.look(lambda api: api.stats(id_, stream=False, one_shot=True), f"{id_} is gone")
    except NothingSelected:
        return 0
    return working_set_bytes(stats)


def working_set_bytes(stats: Mapping[str, Any]) -> int:
    """What a container uses and cannot give back at once: without the page cache that is not in use.

    Raises:
        Refused: when there is no such figure.
    """
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        raise Refused(f"the engine has no figure for the memory of {stats.get('name') or 'a container'}")
    detail = memory.get("stats") or {}
    inactive = detail.get("inactive_file", detail.get("total_inactive_file", 0))
    return max(0, int(memory["usage"]) - int(inactive))
