"""compose.scale: another number of containers of a stateless service, within what is safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remediator.actions.compose.connection import (
    ComposeAction,
    ScaleLimits,
    ServiceName,
    allowed,
)
from remediator.actions.compose.memory import free_bytes
from remediator.actions.compose.project import CHANGES, HASH_LABEL, READS, image_of
from remediator.actions.compose.stateless import not_stateless
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions


class ScaleParams(BaseModel):
    """Parameters of `compose.scale`. Its minimum and maximum stand in the connection."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    service: ServiceName = Field(description="the connection must allow it and say how far")
    replicas: int | None = Field(default=None, ge=1, le=100, description="the wanted number; or else `step`")
    step: int | None = Field(default=None, ge=-20, le=20, description="so many more (or less, below 0)")
    wait_seconds: int = Field(
        default=60, ge=1, le=600, description="in which they have to be running and healthy"
    )

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if (self.replicas is None) == (not self.step):
            raise ValueError("give either replicas or a step other than 0")
        return self


MEMORY = ("GET /info", "GET /containers/{id}/stats")
"""What is asked to know how much memory is left."""


@dataclass(frozen=True, slots=True)
class SeenService:
    """What runs of a service, and what its files say. `free_bytes` is None where no replica needs to be known."""

    containers: tuple[Container, ...]
    config: Mapping[str, Any]
    config_hash: str
    file_image: str
    """The id of the image that the files name now; empty where the engine does not have it."""
    limits: ScaleLimits
    free_bytes: int | None = None


class Scale(ComposeAction):
    """Change the number of containers of a stateless service within its minimum and maximum."""

    kind: ClassVar[str] = "compose.scale"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = ScaleParams

    async def observe(self, params: ScaleParams) -> SeenService:
        """Read the files and the service's containers."""
        allowed(params.service, "scaling of", self._connection.scale)
        limits = self._connection.scale[params.service]
        config = await self._project.service(params.service)
        return SeenService(
            containers=await self._project.containers(params.service),
            config=config,
            config_hash=await self._project.config_hash(params.service),
            file_image=await self._image_id(str(config.get("image") or "")),
            limits=limits,
            free_bytes=None if limits.memory_bytes is None else await free_bytes(self._engine),
        )

    def plan(self, params: ScaleParams, seen: SeenService) -> tuple[Effect, ...]:
        """One effect: from the containers that were seen to the wanted number."""
        now = len(seen.containers)
        subject = self._subject(params.service)
        _check_alike(params.service, seen)
        image = image_of(seen.containers, params.service)
        wanted = _wanted(params, now, seen.limits)
        if wanted > now:
            _check_memory(subject, wanted - now, seen)
        free = {} if seen.free_bytes is None else {"free_bytes": float(seen.free_bytes)}
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"scale {subject} {now} -> {wanted} (image {image[:19]})",
                before={"replicas": now, "image": image, "config_hash": seen.config_hash},
                after={"replicas": wanted},
                figures={"replicas": wanted, **free},
                undo=f"scale it back to {now}",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Bring it to the wanted number, unless it has that already."""
        params = ScaleParams.model_validate(effect.params)
        before, wanted = effect.before["replicas"], effect.after["replicas"]
        seen = await self.observe(params)
        if not seen.limits.min_replicas <= wanted <= seen.limits.max_replicas:
            raise Refused(f"{effect.subject}: {wanted} containers are outside what the connection allows")
        if len(seen.containers) == wanted:
            return Result(f"{effect.subject} has {wanted} containers already", changed=False)
        self._check_before(effect, seen, before)
        (again,) = self.plan(params, seen)
        if again.after != effect.after:
            raise Drifted(f"{effect.subject}: planned again it would be {again.after['replicas']} containers")
        ids = await self._to(params, seen, wanted)
        return Result(f"scaled {effect.subject} {before} -> {wanted}", evidence={"containers": ids})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Bring it back to the number that was, if nobody has set another one since."""
        params = ScaleParams.model_validate(effect.params)
        before, wanted = effect.before["replicas"], effect.after["replicas"]
        seen = await self.observe(params)
        if len(seen.containers) == before:
            return Result(f"{effect.subject} has {before} containers already", changed=False)
        self._check_before(effect, seen, wanted)
        await self._to(params, seen, before)
        return Result(f"scaled {effect.subject} back {wanted} -> {before}")

    def progress(self, effect: Effect, seen: SeenService) -> Progress:
        """Done where the wanted number runs."""
        now = len(seen.containers)
        if {one.image for one in seen.containers} != {effect.before["image"]}:
            return Progress.UNCLEAR
        if now == effect.after["replicas"]:
            well = all(one.status == "running" for one in seen.containers)
            return Progress.DONE if well else Progress.UNCLEAR
        return Progress.UNTOUCHED if now == effect.before["replicas"] else Progress.UNCLEAR

    def permissions(self, params: ScaleParams) -> Permissions:
        """What compose asks of the engine to make and remove containers of one service."""
        limits = self._connection.scale.get(params.service)
        return Permissions(
            docker=(*READS, *CHANGES, *(MEMORY if limits and limits.memory_bytes else ())),
            files=tuple(f"r {path}" for path in self._connection.files),
            other=(f"{' '.join(self._connection.command)} on the host of this service",),
        )

    def _check_before(self, effect: Effect, seen: SeenService, expected: int) -> None:
        service = effect.params["service"]
        if len(seen.containers) != expected:
            raise Drifted(f"{effect.subject} has {len(seen.containers)} containers; planned on {expected}")
        if seen.config_hash != effect.before["config_hash"]:
            raise Drifted(f"what the files say of {service} has changed since it was planned")
        if {one.image for one in seen.containers} != {effect.before["image"]}:
            raise Drifted(f"{effect.subject} runs another image than was planned on")
        _check_alike(service, seen)

    async def _to(self, params: ScaleParams, seen: SeenService, wanted: int) -> list[str]:
        wait = params.wait_seconds
        finished = await self._project.up(
            params.service,
            wanted,
            "--no-recreate",
            "--wait",
            "--wait-timeout",
            str(wait),
            more_seconds=wait,
        )
        if finished.status != 0:
            raise await self._project.failed(finished, params.service, seen.containers)
        after = await self._project.containers(params.service)
        running = [one.id for one in after if one.status == "running"]
        if len(running) != wanted or len(after) != wanted:
            raise OutcomeUnknown(
                f"{self._subject(params.service)} has {len(running)} running containers of {len(after)} "
                f"after it was scaled to {wanted}"
            )
        return running

    async def _image_id(self, reference: str) -> str:
        if not reference:
            return ""
        try:
            found = await self._engine.look(
                lambda api: api.inspect_image(reference), "there is no such image"
            )
        except NothingSelected:
            return ""
        return str(found["Id"])


def _check_alike(service: str, seen: SeenService) -> None:
    """Raise unless one more container would be just like those that run."""
    if not seen.containers:
        raise NothingSelected(f"no container of {service} is there; scaling is no way to start it")
    down = [one.name for one in seen.containers if one.status != "running"]
    if down:
        raise Refused(f"{', '.join(down)} is not running: mend that first")
    reasons = not_stateless(seen.config, seen.containers)
    if reasons:
        raise Refused(f"{service} cannot have several containers: {'; '.join(reasons)}")
    if seen.file_image != image_of(seen.containers, service):
        raise Refused(
            f"the files name another image for {service} now than it runs: a new container would be of another "
            "version; recreate it first"
        )
    if any(one.labels.get(HASH_LABEL) != seen.config_hash for one in seen.containers):
        raise Refused(f"the files say something else of {service} now than it runs with; recreate it first")


def _wanted(params: ScaleParams, now: int, limits: ScaleLimits) -> int:
    least, most = limits.min_replicas, limits.max_replicas
    if params.replicas is not None:
        wanted = params.replicas
        if not least <= wanted <= most:
            raise Refused(f"{wanted} containers of {params.service} are outside {least}..{most}")
    else:
        assert params.step is not None
        wanted = max(least, min(most, now + params.step))
        if (wanted - now) * params.step <= 0:
            bound = f"{most} is the most" if params.step > 0 else f"{least} is the least"
            raise Refused(f"{params.service} has {now} containers; {bound} that is safe")
    if wanted == now:
        raise NothingSelected(f"{params.service} has {now} containers already")
    return wanted


def _check_memory(subject: str, added: int, seen: SeenService) -> None:
    if seen.limits.memory_bytes is None or seen.free_bytes is None:
        return
    needed = added * seen.limits.memory_bytes
    if needed > seen.free_bytes:
        raise Refused(
            f"{subject}: {added} more need {figure('bytes', needed)} of memory; "
            f"the host has {figure('bytes', seen.free_bytes)} left"
        )
