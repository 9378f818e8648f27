"""s3.sync_aside: a prefix into a new folder beside the live one, checked as a whole, and the two swapped in one step."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.s3.connection import (
    BucketName,
    Name,
    ObjectKey,
    Prefix,
    S3Action,
    allowed,
    asking,
    statement,
    url_of,
)
from remediator.actions.s3.download import Download, Owner
from remediator.actions.s3.listing import Listed, digest, listing, manifest
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.rooted import below, exchange, folder, free_bytes, look, looking
from remediator.stoppable import Stop, stoppable

_MANIFEST_BYTES = 64 * 2**20


class SyncAsideParams(BaseModel):
    """Parameters of `s3.sync_aside`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    bucket: BucketName = Field(description="one of the connection's buckets")
    prefix: Prefix = Field(description="everything below it is fetched; the connection must allow it")
    folder: Name = Field(description="what the connection calls the live folder")
    manifest: ObjectKey | None = Field(
        default=None,
        description="an object with a line of `sha256sum` for each file; then all must be there, and no other",
    )
    max_objects: int = Field(default=100_000, ge=1, le=1_000_000, description="no more than so many")
    max_bytes: int = Field(default=100 * 10**9, gt=0, description="no more than so much")


@dataclass(frozen=True, slots=True)
class SeenPrefix:
    """What stands below the prefix, and beside the live folder. Folders are told by device:inode."""

    objects: tuple[Listed, ...]
    digest: str
    live: str
    live_files: int
    asides: dict[str, str]
    """The folders beside the live one that are ours, by name."""

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(one.size_bytes for one in self.objects)


class SyncAside(S3Action):
    """Fetch a prefix into a new folder, check all of it, and swap it with the live folder, which is kept aside."""

    kind: ClassVar[str] = "s3.sync_aside"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = SyncAsideParams

    async def observe(self, params: SyncAsideParams) -> SeenPrefix:
        """List the prefix, all its pages, and look at the live folder."""
        self._check(params)
        return await stoppable(self._see, params)

    def plan(self, params: SyncAsideParams, seen: SeenPrefix) -> tuple[Effect, ...]:
        """One effect: what replaces what."""
        url, live = url_of(params.bucket, params.prefix), self._live(params)
        files = [one for one in seen.objects if not one.folder]
        if not files:
            raise NothingSelected(f"there is nothing below {url}: the live folder stays")
        if seen.bytes > params.max_bytes:
            raise Refused(
                f"{url} holds {figure('bytes', seen.bytes)}, above {figure('bytes', params.max_bytes)}"
            )
        aside = _aside(live, seen.digest, seen.live)
        checked = f"checked against {params.manifest}" if params.manifest else "without a manifest"
        return (
            Effect(
                action=self.kind,
                subject=f"folder {live}",
                params=params.model_dump(mode="json"),
                summary=f"replace {live} ({seen.live_files:,} files) by {len(files):,} objects of {url} "
                f"({figure('bytes', seen.bytes)}, {checked}); the present folder is kept as {aside}",
                before={"live": seen.live, "objects": seen.digest},
                after={"aside": aside},
                figures={"objects": len(files), "bytes": seen.bytes, "live_files": seen.live_files},
                undo=f"swap {live.name} and {aside} again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Fetch, check, list once more, and swap."""
        params = SyncAsideParams.model_validate(effect.params)
        self._check(params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Swap the two folders back; what was fetched stays aside."""
        params = SyncAsideParams.model_validate(effect.params)
        self._check(params)
        return await stoppable(self._undo, params, effect)

    def progress(self, effect: Effect, seen: SeenPrefix) -> Progress:
        """Done where the folder that was live is the one aside."""
        if seen.asides.get(effect.after["aside"]) == effect.before["live"]:
            return Progress.DONE
        same = (seen.live, seen.digest) == (effect.before["live"], effect.before["objects"])
        return Progress.UNTOUCHED if same else Progress.UNCLEAR

    def permissions(self, params: SyncAsideParams) -> Permissions:
        """Listing and reading below the prefix, and writing in the folder that holds the live one."""
        objects = [statement(("GetObject",), params.bucket, f"{params.prefix}*")]
        if params.manifest and not params.manifest.startswith(params.prefix):
            objects.append(statement(("GetObject",), params.bucket, params.manifest))
        listed = statement(("ListBucket",), params.bucket, StringLike={"s3:prefix": [f"{params.prefix}*"]})
        return Permissions(iam=(listed, *objects), files=(f"rw {self._live(params).parent}/",))

    def _check(self, params: SyncAsideParams) -> None:
        self._bucket(params.bucket, params.prefix, *([params.manifest] if params.manifest else []))
        self._live(params)

    def _live(self, params: SyncAsideParams) -> Path:
        return allowed("live folders", params.folder, self._connection.live_folders)

    def _list(self, stop: Stop, params: SyncAsideParams) -> tuple[Listed, ...]:
        return listing(self._s3, params.bucket, params.prefix, stop, params.max_objects)

    def _see(self, stop: Stop, params: SyncAsideParams) -> SeenPrefix:
        live = self._live(params)
        found = self._list(stop, params)
        with looking(live), folder(live.parent) as parent:
            which = _which(parent, live.name)
            with below(parent, (live.name,)) as held:
                files = sum(
                    len(names) for _, _, names, _ in os.fwalk(".", dir_fd=held, follow_symlinks=False)
                )
            with os.scandir(parent) as entries:
                marks = [one.name for one in entries if one.name.startswith(f"{live.name}.aside-")]
            asides = {name: _which(parent, name) for name in marks}
        return SeenPrefix(found, digest(found), which, files, asides)

    def _shas(self, params: SyncAsideParams, objects: tuple[Listed, ...]) -> dict[tuple[str, ...], str]:
        """What the manifest says of each path; it must speak of just the objects that are there."""
        if params.manifest is None:
            return {}
        with asking(url_of(params.bucket, params.manifest)):
            answer = self._s3.get_object(Bucket=params.bucket, Key=params.manifest)
            with answer["Body"] as body:
                text = body.read(_MANIFEST_BYTES).decode("utf-8", errors="replace")
        told = manifest(text)
        there = {one.parts for one in objects if not one.folder and one.key != params.manifest}
        told.pop(next((one.parts for one in objects if one.key == params.manifest), ()), None)
        if set(told) != there:
            missing, more = sorted(set(told) - there), sorted(there - set(told))
            shown = ", ".join("/".join(parts) for parts in (missing + more)[:3])
            raise PermanentFailure(
                f"{params.manifest}: {len(missing):,} of its files are missing, "
                f"and {len(more):,} are there that it does not name ({shown})"
            )
        return told

    def _apply(self, stop: Stop, params: SyncAsideParams, effect: Effect) -> Result:
        live, was, aside = self._live(params), str(effect.before["live"]), str(effect.after["aside"])
        if aside != _aside(live, str(effect.before["objects"]), was):
            raise Refused(f"{aside} is no name of ours for {live}")
        with looking(live), folder(live.parent) as parent:
            if look(parent, aside) is not None and _which(parent, aside) == was:
                return Result(f"{live} was replaced already; the old one is {aside}", changed=False)
            if _which(parent, live.name) != was:
                raise Drifted(f"{live} is another folder than was planned on")
            objects = self._same_listing(stop, params, effect)
            shas = self._shas(params, objects)
            if free_bytes(parent) < sum(one.size_bytes for one in objects):
                raise PermanentFailure(f"there is no room beside {live}; nothing was changed")
            found = os.stat(live.name, dir_fd=parent, follow_symlinks=False)
            owner = Owner(found.st_uid, found.st_gid, found.st_mode & 0o7777)
            download = Download(self._s3, params.bucket, parent, aside, owner, stop)
            swapped = False
            try:
                download.run(objects, shas)
                self._same_listing(stop, params, effect)
                stop.check()
                _swap(parent, live.name, aside, was)
                swapped = True
            finally:
                if not swapped:
                    download.discard()
        fetched = download.fetched
        return Result(
            f"{live} is {fetched.objects:,} objects of {url_of(params.bucket, params.prefix)} "
            f"({figure('bytes', fetched.bytes)}); the old one is {aside}",
            evidence={
                "objects": fetched.objects,
                "bytes": fetched.bytes,
                "checked_by_size_only": fetched.size_only,
                "aside": str(live.parent / aside),
            },
        )

    def _same_listing(self, stop: Stop, params: SyncAsideParams, effect: Effect) -> tuple[Listed, ...]:
        objects = self._list(stop, params)
        if digest(objects) != effect.before["objects"]:
            raise Drifted(f"what stands below {url_of(params.bucket, params.prefix)} has changed")
        return objects

    def _undo(self, stop: Stop, params: SyncAsideParams, effect: Effect) -> Result:
        live, was, aside = self._live(params), str(effect.before["live"]), str(effect.after["aside"])
        with looking(live), folder(live.parent) as parent:
            if _which(parent, live.name) == was:
                return Result(f"{live} is the folder that it was already", changed=False)
            if look(parent, aside) is None or _which(parent, aside) != was:
                raise Refused(f"{aside}, the folder that was live, is there no more")
            stop.check()
            exchange(parent, live.name, aside)
            os.fsync(parent)
        return Result(f"{live} is the folder that it was; what was fetched is {aside}")


def _aside(live: Path, listed: str, was: str) -> str:
    """The name of the folder beside the live one: of its own for each content and each folder that it replaces."""
    return f"{live.name}.aside-{hashlib.sha256(f'{listed} {was}'.encode()).hexdigest()[:16]}"


def _which(parent: int, name: str) -> str:
    with below(parent, (name,)) as held:
        found, outer = os.fstat(held), os.fstat(parent)
    if found.st_dev != outer.st_dev:
        raise Refused(f"{name} is a file system of its own: it cannot be swapped")
    return f"{found.st_dev}:{found.st_ino}"


def _swap(parent: int, live: str, aside: str, was: str) -> None:
    exchange(parent, live, aside)
    if _which(parent, aside) != was:
        exchange(parent, live, aside)
        raise Drifted(f"{live} was replaced by somebody else meanwhile")
    os.fsync(parent)
