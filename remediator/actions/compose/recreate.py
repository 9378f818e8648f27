"""compose.recreate: new containers for one service, of an image that is pinned by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.compose import pins
from remediator.actions.compose.connection import ComposeAction, Digest, ServiceName, allowed
from remediator.actions.compose.project import CHANGES, READS, image_of
from remediator.containers import Container
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import ActionError, Drifted, NothingSelected, OutcomeUnknown, Refused
from remediator.offload import offload
from remediator.pipeline.ports import Permissions


class RecreateParams(BaseModel):
    """Parameters of `compose.recreate`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    service: ServiceName = Field(description="the connection must allow it and say which repository it runs")
    digest: Digest | None = Field(
        default=None,
        description="digest or id of the image, which the engine must have; the one that runs now where empty",
    )
    stop_timeout_seconds: int = Field(default=10, ge=0, le=300, description="before the old ones are killed")
    healthy_seconds: int = Field(
        default=60, ge=1, le=600, description="in which the new ones have to be running and healthy"
    )


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has. `reference` is by digest where it has one of our repository, else its id."""

    id: str
    reference: str
    ours: bool
    """Whether it has a name or digest of the service's repository."""


@dataclass(frozen=True, slots=True)
class SeenVersions:
    """What runs of the service, of which image, and the image that is wanted.

    `running` is None where they run several images, or one that the engine has no more.
    """

    containers: tuple[Container, ...]
    running: Image | None
    wanted: Image | None
    pinned: str


class Recreate(ComposeAction):
    """Make the containers of one service anew with its image pinned by digest; nothing else is touched."""

    kind: ClassVar[str] = "compose.recreate"
    # Not idempotent: a second one would make the containers that a first one is just starting anew.
    idempotent: ClassVar[bool] = False
    Params: ClassVar[type[BaseModel]] = RecreateParams

    async def observe(self, params: RecreateParams) -> SeenVersions:
        """Read what runs, and the images."""
        allowed(params.service, "recreating", self._connection.recreate)
        repository = self._connection.recreate[params.service]
        await self._project.service(params.service)
        containers = await self._project.containers(params.service)
        pinned = await offload(pins.read, self._pins)
        if not containers:
            return SeenVersions((), None, None, pinned.get(params.service, ""))
        images = {one.image for one in containers}
        now = await self._image(images.pop(), repository) if len(images) == 1 else None
        wanted = now if params.digest is None else await self._wanted(params.digest, repository)
        return SeenVersions(containers, now, wanted, pinned.get(params.service, ""))

    def plan(self, params: RecreateParams, seen: SeenVersions) -> tuple[Effect, ...]:
        """One effect: these containers are replaced by as many of the pinned image."""
        subject = self._subject(params.service)
        if not seen.containers:
            raise NothingSelected(f"no container of {params.service} is there")
        image_of(seen.containers, params.service)
        if seen.running is None:
            raise Refused(
                f"the image that {params.service} runs is gone from the engine; it could not come back"
            )
        if seen.wanted is None:
            raise Refused(f"the engine has no image {params.digest}; it has to be pulled first")
        if not seen.wanted.ours and seen.wanted.id != seen.running.id:
            repository = self._connection.recreate[params.service]
            raise Refused(f"the image {params.digest} is not one of {repository}")
        number, old, new = len(seen.containers), seen.running, seen.wanted
        change = f"{old.id[:19]} -> {new.id[:19]}" if old.id != new.id else f"same image {new.id[:19]}"
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"recreate {subject}, {number} containers, {change}, without what it depends on",
                before={
                    "containers": sorted(one.id for one in seen.containers),
                    "image": old.id,
                    "reference": old.reference,
                    "pinned": seen.pinned,
                },
                after={"image": new.id, "reference": new.reference},
                figures={"containers": number},
                undo=f"recreate it with the image before, {old.reference}" if old.id != new.id else "",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Pin the image and replace the containers, unless that was done."""
        params = RecreateParams.model_validate(effect.params)
        seen = await self.observe(params)
        ids, wanted = _ids(seen.containers), effect.after["image"]
        replaced = bool(ids) and not set(ids) & set(effect.before["containers"])
        if replaced and seen.running is not None and seen.running.id == wanted:
            return Result(f"{effect.subject} was recreated already", changed=False)
        if ids != effect.before["containers"]:
            raise Drifted(f"the containers of {params.service} are others than was planned on")
        self.plan(params, seen)
        if seen.wanted is None or seen.wanted.id != wanted:
            raise Drifted(f"the image {effect.after['reference']} is not the one that was planned on")
        await self._recreate(params, seen, wanted, effect.after["reference"])
        return Result(
            f"recreated {effect.subject} with {effect.after['reference']}",
            evidence={"image": wanted},
            captured={"image": effect.before["image"], "reference": effect.before["reference"]},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Recreate it with the image before, if it still runs the one that we put there."""
        params = RecreateParams.model_validate(effect.params)
        before, after = effect.before["image"], effect.after["image"]
        if before == after:
            raise Refused("it runs the same image as before: there is nothing to take back")
        seen = await self.observe(params)
        now = seen.running.id if seen.running else ""
        if now == before:
            return Result(f"{effect.subject} runs the image before already", changed=False)
        if now != after:
            raise Refused(f"{effect.subject} runs neither the image before nor the one that we put there")
        if await self._image(before, self._connection.recreate[params.service]) is None:
            raise Refused(f"the image before, {before}, is gone from the engine")
        await self._recreate(params, seen, before, effect.before["reference"])
        return Result(f"recreated {effect.subject} with the image before, {effect.before['reference']}")

    def progress(self, effect: Effect, seen: SeenVersions) -> Progress:
        """Done where other containers run the wanted image, untouched where the same ones run."""
        ids = _ids(seen.containers)
        if ids == effect.before["containers"]:
            return Progress.UNTOUCHED
        if not ids or set(ids) & set(effect.before["containers"]):
            return Progress.UNCLEAR
        well = all(one.status == "running" and one.health in ("", "healthy") for one in seen.containers)
        same = seen.running is not None and seen.running.id == effect.after["image"]
        return Progress.DONE if same and well else Progress.UNCLEAR

    def permissions(self, params: RecreateParams) -> Permissions:
        """What compose asks of the engine to replace containers of one service, and the file of pins."""
        return Permissions(
            docker=(*READS, *CHANGES, "POST /containers/{name}/rename"),
            files=(*(f"r {path}" for path in self._connection.files), f"rw {self._pins}"),
            other=(f"{' '.join(self._connection.command)} on the host of this service",),
        )

    @property
    def _pins(self) -> Path:
        if self._connection.pins_file is None:
            raise Refused("the connection names no pins_file to pin an image in")
        return self._connection.pins_file

    async def _recreate(self, params: RecreateParams, seen: SeenVersions, image: str, reference: str) -> None:
        await offload(pins.pin, self._pins, params.service, reference)
        finished = await self._project.up(
            params.service,
            len(seen.containers),
            "--force-recreate",
            "--timeout",
            str(params.stop_timeout_seconds),
            "--wait",
            "--wait-timeout",
            str(params.healthy_seconds),
            more_seconds=params.stop_timeout_seconds * len(seen.containers) + params.healthy_seconds,
        )
        if finished.status != 0:
            failure = await self._project.failed(finished, params.service, seen.containers)
            if not isinstance(failure, OutcomeUnknown):
                # Nothing was replaced: the files say again what runs.
                await offload(pins.pin, self._pins, params.service, seen.pinned or None)
            raise failure
        await self._check(params, seen, image)

    async def _check(self, params: RecreateParams, seen: SeenVersions, image: str) -> None:
        try:
            after = await self._project.containers(params.service)
        except ActionError as error:
            raise OutcomeUnknown(f"after {params.service} was recreated: {error}") from error
        well = [one for one in after if one.status == "running" and one.image == image]
        if len(well) != len(seen.containers) or len(after) != len(well):
            raise OutcomeUnknown(
                f"after {params.service} was recreated {len(well)} of {len(after)} containers run {image[:19]}"
            )

    async def _wanted(self, digest: str, repository: str) -> Image | None:
        by_digest = await self._image(f"{repository}@{digest}", repository)
        return by_digest or await self._image(digest, repository)

    async def _image(self, reference: str, repository: str) -> Image | None:
        try:
            found = await self._engine.look(
                lambda api: api.inspect_image(reference), "there is no such image"
            )
        except NothingSelected:
            return None
        return image_from(found, repository)


def image_from(found: Mapping[str, Any], repository: str) -> Image:
    """An image as `GET /images/{name}/json` shows it."""
    digests = sorted(one for one in found.get("RepoDigests") or () if one.startswith(f"{repository}@"))
    tags = [one for one in found.get("RepoTags") or () if one.rpartition(":")[0] == repository]
    return Image(found["Id"], digests[0] if digests else found["Id"], bool(digests or tags))


def _ids(containers: tuple[Container, ...]) -> list[str]:
    return sorted(one.id for one in containers)
