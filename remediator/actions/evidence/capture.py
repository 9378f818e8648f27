"""evidence.capture: keep what the sources say now, before anything is restarted."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from remediator.actions.evidence import keeping
from remediator.actions.evidence.connection import (
    DockerSource,
    EvidenceConnection,
    FileSource,
    JournalSource,
    PageSource,
    RedisSource,
    Source,
    SourceName,
)
from remediator.actions.evidence.hiding import Hiding, tail
from remediator.actions.evidence.readers import read
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, Drifted, PermanentFailure, Refused
from remediator.figures import figure
from remediator.offload import offload
from remediator.pipeline.ports import Permissions

_REMEMBERED = 20
"""How many of the last captures are looked at for one that was interrupted. A choice of ours."""


class CaptureParams(BaseModel):
    """Parameters of `evidence.capture`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    capture: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")] = Field(
        default="evidence", description="what the directory's name begins with; a number follows"
    )
    sources: tuple[SourceName, ...] = Field(
        min_length=1, max_length=30, description="which of the connection's sources are read"
    )

    @field_validator("sources")
    @classmethod
    def _each_once(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(sources)) != len(sources):
            raise ValueError("a source is named twice")
        return sources


@dataclass(frozen=True, slots=True)
class Shelf:
    """The name that the next capture gets, the keys of the last ones by name, and the space that is left."""

    following: str
    keys: Mapping[str, str]
    free_bytes: int


class Capture:
    """Capture logs, statistics and pages, redacted and bounded, into a directory of their own with a manifest.

    The systems are only read. What cannot be read is noted in the manifest; where nothing can, nothing is kept.
    """

    kind: ClassVar[str] = "evidence.capture"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = CaptureParams
    Connection: ClassVar[type[BaseModel]] = EvidenceConnection

    def __init__(self, connection: EvidenceConnection) -> None:
        self._connection = connection
        self._hide = Hiding(connection.hide)

    async def close(self) -> None:
        """Nothing is held."""

    async def observe(self, params: CaptureParams) -> Shelf:
        """Look at the directory alone."""
        self._check(params)
        return await offload(self._look, params)

    def plan(self, params: CaptureParams, seen: Shelf) -> tuple[Effect, ...]:
        """One effect: the new directory."""
        ours = self._connection
        keeping.refuse_full(ours.directory, seen.free_bytes, ours.max_bytes, ours.min_free_bytes)
        before = {"following": seen.following, "sources": self._digest(params)}
        return (
            Effect(
                action=self.kind,
                subject=f"{ours.directory}/{seen.following}",
                params=params.model_dump(mode="json"),
                summary=f"capture {', '.join(params.sources)} into {ours.directory}/{seen.following} "
                f"(at most {figure('bytes', ours.max_bytes)}); the systems are only read",
                before=before,
                after={"key": _key(params, before)},
                figures={"sources": len(params.sources), "free_bytes": seen.free_bytes},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Read, hide, bound and keep, unless it was."""
        params = CaptureParams.model_validate(effect.params)
        self._check(params)
        name, key = str(effect.before["following"]), _key(params, effect.before)
        there = await offload(self._look, params)
        if there.keys.get(name) == key:
            return Result(f"{effect.subject} is there already", changed=False)
        if there.following != name:
            raise Drifted(f"the next capture is {there.following}, and {name} was planned on")
        if effect.before["sources"] != self._digest(params):
            raise Drifted("the connection's sources have changed since they were planned on")
        keeping.refuse_full(
            self._connection.directory,
            there.free_bytes,
            self._connection.max_bytes,
            self._connection.min_free_bytes,
        )
        files, told = await self._read(params)
        manifest = {
            "capture": name,
            "key": key,
            "captured_at": datetime.now(UTC).isoformat(),
            "sources": told,
        }
        # Writing is not cut short by a cancellation: the directory is then there whole.
        size = await offload(keeping.keep, self._connection.directory, name, files, manifest)
        missing = [one for one, note in told.items() if "error" in note]
        lacks = f"; not to be had: {', '.join(missing)}" if missing else ""
        return Result(
            f"captured {len(files)} of {len(told)} sources into {effect.subject} ({figure('bytes', size)}){lacks}",
            evidence={"capture": {"directory": effect.subject, "sources": told}},
            captured={"directory": effect.subject},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none: evidence is kept."""
        raise Refused("evidence is not taken back; its directory is removed by a person")

    def progress(self, effect: Effect, seen: Shelf) -> Progress:
        """Whether the directory is there, and ours."""
        name = str(effect.before["following"])
        if seen.keys.get(name) == effect.after["key"]:
            return Progress.DONE
        return Progress.UNTOUCHED if seen.following == name else Progress.UNCLEAR

    def permissions(self, params: CaptureParams) -> Permissions:
        """Writing the directory, and reading each source."""
        files, http, docker, redis, other = [f"rw {self._connection.directory}"], [], [], [], []
        for name in params.sources:
            source = self._connection.sources.get(name)
            if isinstance(source, FileSource):
                files.append(f"r {source.path}")
            elif isinstance(source, PageSource):
                http.append(f"GET {source.url}")
            elif isinstance(source, RedisSource):
                redis += ["+info", "+slowlog|get", "+select"]
            elif isinstance(source, JournalSource):
                other.append(f"reading the journal of {source.unit} (group systemd-journal)")
            elif isinstance(source, DockerSource):
                docker += _docker_calls(source)
        return Permissions(
            files=tuple(files),
            http=tuple(http),
            docker=tuple(dict.fromkeys(docker)),
            redis=tuple(dict.fromkeys(redis)),
            other=tuple(other),
        )

    def _check(self, params: CaptureParams) -> None:
        unknown = sorted(set(params.sources) - set(self._connection.sources))
        if unknown:
            raise Refused(f"the connection does not allow the source {', '.join(unknown)}")

    def _look(self, params: CaptureParams) -> Shelf:
        directory = self._connection.directory
        present = keeping.names(directory, params.capture)
        keys = {name: keeping.key_of(directory, name) or "" for name in present[-_REMEMBERED:]}
        return Shelf(keeping.following(present, params.capture), keys, keeping.free(directory))

    def _digest(self, params: CaptureParams) -> str:
        chosen = {
            name: self._connection.sources[name].model_dump(mode="json")
            for name in params.sources
            if name in self._connection.sources
        }
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()

    async def _read(self, params: CaptureParams) -> tuple[dict[str, bytes], dict[str, Any]]:
        share = self._connection.max_bytes // len(params.sources)
        sources = [self._connection.sources[name] for name in params.sources]
        found = await asyncio.gather(*(self._one(source, share) for source in sources))
        files = {
            f"{name}.txt": data
            for name, (data, _) in zip(params.sources, found, strict=True)
            if data is not None
        }
        told = {name: note for name, (_, note) in zip(params.sources, found, strict=True)}
        if not files:
            reasons = "; ".join(f"{name}: {note['error']}" for name, note in told.items())
            raise PermanentFailure(f"no source could be read: {reasons}")
        return files, told

    async def _one(self, source: Source, most_bytes: int) -> tuple[bytes | None, dict[str, Any]]:
        seconds = self._connection.timeout_seconds
        try:
            async with asyncio.timeout(seconds + 1):
                raw = await read(source, most_bytes, seconds)
        except TimeoutError:
            return None, {"error": f"took longer than {seconds:g} s"}
        except ActionError as error:
            # What is broken is often what is to be looked at: the rest is still worth keeping.
            return None, {"error": self._hide(str(error))}
        kept, whole = tail(raw, most_bytes)
        text = await offload(self._hide, kept.decode("utf-8", errors="replace"))
        # What was hidden, and what was no text, may have grown.
        data, still_whole = tail(text.encode(), most_bytes)
        return data, {"whole": whole and still_whole, "bytes": len(data)}


def _key(params: CaptureParams, before: Mapping[str, Any]) -> str:
    text = json.dumps([params.model_dump(mode="json"), dict(before)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _docker_calls(source: DockerSource) -> list[str]:
    if source.type == "docker_logs":
        return ["GET /version", "GET /containers/{id}/json", "GET /containers/{id}/logs"]
    return ["GET /version", "GET /containers/{id}/json", "GET /containers/{id}/stats"]
