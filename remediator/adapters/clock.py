"""The wall clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime


class WallClock:
    """Time as it passes, in UTC."""

    def now(self) -> datetime:
        """The time now."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
