"""files.prune_cache: the oldest files of a cache go, until its use is low enough, and none that is new or open."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.actions.files.connection import Cache, FilesAction, Name, allowed
from remediator.actions.files.oldfiles import OldFile, Walk, Wanted
from remediator.actions.files.openers import Openers
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import below, failed, folder, looking, regular, remove_exactly
from remediator.stoppable import Stop, stoppable

HEADROOM = 1.25
"""How far a live cache may grow between the plan and its application before it counts as drift. Ours."""

_LISTED = 200
_STUCK_BYTES = 256 * 1024 * 1024


class PruneCacheParams(BaseModel):
    """Parameters of `files.prune_cache`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    cache: Name = Field(description="what the connection calls the cache")
    measure: Literal["filesystem", "limit"] = Field(
        default="filesystem",
        description="use is the used share of the cache's file system, or the cache's size over its limit",
    )
    above_percent: int = Field(default=80, ge=1, le=99, description="nothing goes unless the use is above it")
    until_percent: int = Field(default=70, ge=0, le=98, description="files go until the use is not above it")
    min_age_seconds: int = Field(
        default=86_400, ge=60, description="newer files stay; not less than the connection says"
    )
    mountpoint: Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9_./-]{0,255}$")] | None = Field(
        default=None, description="what is full, as the alert says: it must be where the cache lies"
    )
    max_files: int = Field(default=100_000, ge=1, le=1_000_000, description="no more than so many go at once")

    @model_validator(mode="after")
    def _downwards(self) -> PruneCacheParams:
        if self.until_percent >= self.above_percent:
            raise ValueError("until_percent has to be below above_percent")
        return self


@dataclass(frozen=True, slots=True)
class Use:
    """How much of what is measured is used, in bytes."""

    used_bytes: int
    whole_bytes: int

    @property
    def ratio(self) -> float:
        """The used share."""
        return self.used_bytes / self.whole_bytes

    def above(self, percent: int) -> bool:
        """Whether more than that is used."""
        return self.used_bytes * 100 > self.whole_bytes * percent

    def surplus_bytes(self, percent: int) -> int:
        """How much has to go for not more than that to be used."""
        return max(0, math.ceil(self.used_bytes - self.whole_bytes * percent / 100))


@dataclass(frozen=True, slots=True)
class SeenCache:
    """A cache: which folder it is (device:inode), its use, and its oldest files past the age limit."""

    folder: str
    cutoff_at: datetime
    use: Use
    files: tuple[OldFile, ...]
    same_filesystem: bool = True


class PruneCache(FilesAction):
    """Remove the oldest files of a cache, past an age and not open, until its use is low enough."""

    kind: ClassVar[str] = "files.prune_cache"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = PruneCacheParams

    async def observe(self, params: PruneCacheParams) -> SeenCache:
        """Walk the folder, and ask its file system."""
        return await stoppable(self._observe, params)

    def plan(self, params: PruneCacheParams, seen: SeenCache) -> tuple[Effect, ...]:
        """One effect: how many files go, the oldest first."""
        cache = self._cache(params)
        where = self._connection.where(cache.folder)
        what = "the file system" if params.measure == "filesystem" else "its limit"
        if not seen.same_filesystem:
            raise Refused(
                f"{params.mountpoint} is full, and cache {params.cache} ({where}) does not lie there"
            )
        if not seen.use.above(params.above_percent):
            raise NothingSelected(
                f"cache {params.cache} uses {seen.use.ratio:.1%} of {what}, not above {params.above_percent}%"
            )
        files, freed = _oldest(seen.files, seen.use.surplus_bytes(params.until_percent))
        if not files:
            raise NothingSelected(
                f"cache {params.cache}: no file is older than {figure('seconds', params.min_age_seconds)}"
            )
        return (
            Effect(
                action=self.kind,
                subject=f"cache {where}",
                params=params.model_dump(mode="json"),
                summary=f"remove the oldest {files:,} files of cache {params.cache} ({figure('bytes', freed)}), none changed "
                f"after {seen.cutoff_at:%Y-%m-%d %H:%M} UTC; {seen.use.ratio:.1%} of {what} is used",
                before={"folder": seen.folder},
                after={"cutoff_at": seen.cutoff_at.isoformat()},
                figures={"files": files, "bytes": freed},
                at_most={
                    "files": math.ceil(files * HEADROOM) + 100,
                    "bytes": math.ceil(freed * HEADROOM) + 2**20,
                },
                irreversible=not cache.expendable,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Remove one after the other until the use is low enough; never more than was approved."""
        params = PruneCacheParams.model_validate(effect.params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("removed files cannot be brought back")

    def progress(self, effect: Effect, seen: SeenCache) -> Progress:
        """Done where the use is low enough or nothing is old enough; otherwise going on is the same as starting."""
        params = PruneCacheParams.model_validate(effect.params)
        if not seen.files or not seen.use.above(params.until_percent):
            return Progress.DONE
        return Progress.UNTOUCHED if seen.folder == effect.before["folder"] else Progress.UNCLEAR

    def permissions(self, params: PruneCacheParams) -> Permissions:
        """Reading and removing in the cache; seeing who has its files open."""
        where = self._connection.where(self._cache(params).folder)
        return Permissions(
            files=(f"rw {where}/",),
            other=(
                "ownership of the files or CAP_LEASE, else CAP_SYS_PTRACE, to know whether they are open; if not they stay",
            ),
        )

    def _cache(self, params: PruneCacheParams) -> Cache:
        cache = allowed("caches", params.cache, self._connection.caches)
        if params.min_age_seconds < cache.min_age_seconds:
            raise Refused(
                f"cache {params.cache}: files newer than {figure('seconds', cache.min_age_seconds)} never go"
            )
        if params.measure == "limit" and cache.limit_bytes is None:
            raise Refused(f"cache {params.cache} has no limit_bytes to be measured by")
        return cache

    def _wanted(self, cache: Cache, cutoff_ns: int) -> Wanted:
        return Wanted(tuple(cache.names), cutoff_ns, cache.owner_uid)

    def _observe(self, stop: Stop, params: PruneCacheParams) -> SeenCache:
        cache = self._cache(params)
        cutoff_ns = time.time_ns() - params.min_age_seconds * 10**9
        with looking(f"cache {params.cache}"), folder(self._connection.where(cache.folder)) as held:
            walk = Walk(self._wanted(cache, cutoff_ns), stop)
            files = walk.oldest(held, params.max_files)
            found = os.fstat(held)
            same = params.mountpoint is None or _lies_on(params.mountpoint, found)
            return SeenCache(
                folder=f"{found.st_dev}:{found.st_ino}",
                cutoff_at=datetime.fromtimestamp(cutoff_ns // 10**9, UTC),
                use=_use(held, walk.total_bytes, params, cache),
                files=tuple(files),
                same_filesystem=same,
            )

    def _apply(self, stop: Stop, params: PruneCacheParams, effect: Effect) -> Result:
        cache = self._cache(params)
        cutoff_ns = int(datetime.fromisoformat(effect.after["cutoff_at"]).timestamp()) * 10**9
        latest = time.time_ns() - params.min_age_seconds * 10**9
        with looking(f"cache {params.cache}"), folder(self._connection.where(cache.folder)) as held:
            found = os.fstat(held)
            if f"{found.st_dev}:{found.st_ino}" != effect.before["folder"]:
                raise Drifted(f"cache {params.cache} is another folder than was planned on")
            if params.mountpoint is not None and not _lies_on(params.mountpoint, found):
                raise Drifted(f"{params.mountpoint} is another file system than that of cache {params.cache}")
            walk = Walk(self._wanted(cache, min(cutoff_ns, latest)), stop)
            files = walk.oldest(held, min(params.max_files, int(effect.at_most["files"])))
            sweep = _Sweep(held, params, cache, effect.at_most, walk.total_bytes)
            try:
                sweep.run(files, stop)
            except OSError as error:
                if not sweep.gone:
                    raise
                raise OutcomeUnknown(
                    f"{failed(error, params.cache)}; {len(sweep.gone):,} files were gone by then"
                ) from error
            return sweep.result(params)


class _Sweep:
    """Removes files from a folder that is held, and counts."""

    def __init__(
        self, held: int, params: PruneCacheParams, cache: Cache, at_most: Mapping[str, float], total: int
    ) -> None:
        self._held, self._params, self._cache = held, params, cache
        self._bytes_left = int(at_most["bytes"])
        self._total = total
        self._first = self.use
        self._openers = Openers()
        self.gone: list[str] = []
        self.freed = 0
        self.in_use = 0

    @property
    def use(self) -> Use:
        """As it is now."""
        return _use(self._held, self._total, self._params, self._cache)

    def run(self, files: list[OldFile], stop: Stop) -> None:
        """One after the other, until the use is low enough or a bound is reached."""
        for file in files:
            stop.check()
            if not self.use.above(self._params.until_percent) or file.bytes > self._bytes_left or self._stuck:
                return
            self._remove(file)

    @property
    def _stuck(self) -> bool:
        """Whether much went and the use did not fall: a snapshot, or somebody who fills it meanwhile."""
        return self.freed >= _STUCK_BYTES and self.use.used_bytes >= self._first.used_bytes

    def _remove(self, file: OldFile) -> None:
        judged = False
        try:
            with below(self._held, file.parts[:-1]) as parent, regular(parent, file.parts[-1]) as held:
                judged = self._openers.free(held)
                if not judged:
                    self.in_use += 1
                    return
                if not remove_exactly(parent, file.parts[-1], file.identity):
                    return
        except (FileNotFoundError, NotADirectoryError, Refused):
            return  # gone meanwhile, or something else stands there now: not what was selected
        except PermissionError:
            if judged:
                raise
            self.in_use += 1  # not ours to open, so nobody knows
            return
        self.gone.append("/".join(file.parts))
        self.freed += file.bytes
        self._total -= file.bytes
        self._bytes_left -= file.bytes

    def result(self, params: PruneCacheParams) -> Result:
        """What was done."""
        kept = f"; {self.in_use:,} are in use and stay" if self.in_use else ""
        return Result(
            f"removed {len(self.gone):,} files of cache {params.cache} ({figure('bytes', self.freed)}); "
            f"its use was {self._first.ratio:.1%} and is {self.use.ratio:.1%}{kept}",
            changed=bool(self.gone),
            evidence={
                "files": len(self.gone),
                "bytes": self.freed,
                "in_use": self.in_use,
                "names": self.gone[:_LISTED],
            },
        )


def _oldest(files: tuple[OldFile, ...], need: int) -> tuple[int, int]:
    """How many of the oldest have to go to free so many bytes, and how many bytes that frees."""
    freed = 0
    for number, file in enumerate(files):
        if freed >= need:
            return number, freed
        freed += file.bytes
    return len(files), freed


def _use(held: int, total: int, params: PruneCacheParams, cache: Cache) -> Use:
    if params.measure == "limit":
        assert cache.limit_bytes is not None
        return Use(total, cache.limit_bytes)
    disk = os.fstatvfs(held)
    return Use((disk.f_blocks - disk.f_bavail) * disk.f_frsize, disk.f_blocks * disk.f_frsize)


def _lies_on(mountpoint: str, found: os.stat_result) -> bool:
    try:
        return Path(mountpoint).stat().st_dev == found.st_dev and Path(mountpoint).is_mount()
    except FileNotFoundError:
        return False
