"""docker.prune_images: remove images that are old, that nothing uses and that nobody would roll back to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.docker.connection import DockerAction, DockerConnection
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, PermanentFailure, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions

HOUR, YEAR = 3600, 366 * 24 * 3600
UNTAGGED = ""
"""The repository, so to speak, of images without any name."""


class PruneImagesParams(BaseModel):
    """Parameters of `docker.prune_images`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    older_than_seconds: int = Field(
        default=7 * 24 * HOUR,
        ge=HOUR,
        le=10 * YEAR,
        description="since it was made, and since it got its name",
    )
    keep_newest_images: int = Field(
        default=2,
        ge=1,
        le=100,
        description="of each repository these stay: what runs and what to roll back to",
    )
    max_images: int = Field(default=50, ge=1, le=500, description="at most so many, the oldest first")


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the engine lists it. `made_at` is when it was built or got its name here, whichever is later."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    made_at: datetime
    size_bytes: int

    @property
    def name(self) -> str:
        """What a person calls it."""
        return (*self.tags, *self.digests, self.id[:19])[0]

    @property
    def repositories(self) -> frozenset[str]:
        """The names of it, without tag or digest."""
        tagged = {tag.rpartition(":")[0] for tag in self.tags}
        return frozenset(tagged | {digest.partition("@")[0] for digest in self.digests}) or frozenset(
            {UNTAGGED}
        )


@dataclass(frozen=True, slots=True)
class SeenImages:
    """Every image, the ids of those that a container was made of, running or not, and when that was seen."""

    engine_id: str
    images: tuple[Image, ...]
    used: frozenset[str]
    now: datetime


class PruneImages(DockerAction):
    """Remove old images that no container uses, never one to roll back to, by exact id and without force."""

    kind: ClassVar[str] = "docker.prune_images"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = PruneImagesParams

    async def observe(self, params: PruneImagesParams) -> SeenImages:
        """List images and containers."""
        if not self._connection.image_repositories and not self._connection.prune_untagged:
            raise Refused("the connection allows no repository whose images may be pruned")
        missing = "the engine lists no images"
        info = await self._engine.look(lambda api: api.info(), missing)
        listed = await self._engine.look(lambda api: api.images(), missing)
        used = await self._engine.look(lambda api: api.containers(all=True), missing)
        found = [await self._image(one) for one in listed]
        return SeenImages(
            engine_id=str(info["ID"]),
            images=tuple(one for one in found if one is not None),
            used=frozenset(container["ImageID"] for container in used),
            now=datetime.now(UTC),
        )

    def plan(self, params: PruneImagesParams, seen: SeenImages) -> tuple[Effect, ...]:
        """One effect on exactly these images."""
        chosen, kept = choose(seen, params, self._connection)
        told = ", ".join(f"{number} {why}" for why, number in sorted(kept.items()))
        if not chosen:
            raise NothingSelected(f"no image to prune ({told or 'there is none'})")
        size = sum(image.size_bytes for image in chosen)
        names = ", ".join(image.name for image in chosen[:5]) + ("..." if len(chosen) > 5 else "")
        return (
            Effect(
                action=self.kind,
                subject=f"images of {self._engine.base_url}",
                params=params.model_dump(mode="json"),
                summary=f"remove {len(chosen)} images, up to {figure('bytes', size)}: {names} "
                f"(kept: {told or 'none'})",
                before={"engine": seen.engine_id, "images": sorted(image.id for image in chosen)},
                figures={"images": len(chosen), "bytes": size},
                at_most={"images": len(chosen), "bytes": size},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Remove what is left of them, if each of them may still go."""
        params = PruneImagesParams.model_validate(effect.params)
        seen = await self.observe(params)
        left = self._left(effect, params, seen)
        if not left:
            return Result("all of these images are gone already", changed=False)
        removed, kept = [], []
        for image in left:
            # A name that it got since would be lost with it: the engine itself refuses only what a container uses.
            if await self._image_now(image.id) != image:
                kept.append(f"{image.name}: it has changed")
                continue
            try:
                await self._engine.change(_removal(image.id), f"remove {image.name}")
                removed.append(image)
            except (Drifted, PermanentFailure) as error:
                kept.append(f"{image.name}: {error}")
        if not removed:
            raise Drifted("; ".join(kept))
        size = sum(image.size_bytes for image in removed)
        return Result(
            f"removed {len(removed)} images, up to {figure('bytes', size)}"
            + (f"; {len(kept)} stayed" if kept else ""),
            evidence={"removed": {image.id: image.name for image in removed}, "kept": kept},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("a removed image does not come back; it has to be pulled or built again")

    def progress(self, effect: Effect, seen: SeenImages) -> Progress:
        """Done where none of them is left, untouched where all are."""
        if seen.engine_id != effect.before["engine"]:
            return Progress.UNCLEAR
        there = {image.id for image in seen.images} & set(effect.before["images"])
        if not there:
            return Progress.DONE
        return Progress.UNTOUCHED if len(there) == len(effect.before["images"]) else Progress.UNCLEAR

    def permissions(self, params: PruneImagesParams) -> Permissions:
        """Listing images and containers, and removing images."""
        reads = ("GET /version", "GET /info", "GET /images/json", "GET /images/{id}/json")
        return Permissions(docker=(*reads, "GET /containers/json", "DELETE /images/{id}"))

    def _left(self, effect: Effect, params: PruneImagesParams, seen: SeenImages) -> list[Image]:
        if seen.engine_id != effect.before["engine"]:
            raise Drifted("this is another engine than was planned on")
        planned = set(effect.before["images"])
        there = [image for image in seen.images if image.id in planned]
        why = {image.id: reason for image, reason in judge(seen, params, self._connection)}
        spoilt = [f"{image.name} ({why[image.id]})" for image in there if why[image.id]]
        if spoilt:
            raise Drifted(f"not to be removed any more: {', '.join(spoilt)}")
        return sorted(there, key=lambda image: image.made_at)

    async def _image(self, listed: Mapping[str, Any]) -> Image | None:
        return await self._image_now(str(listed["Id"]))

    async def _image_now(self, id_: str) -> Image | None:
        try:
            found = await self._engine.look(lambda api: api.inspect_image(id_), f"there is no image {id_}")
        except NothingSelected:
            return None
        return image_of(found)


def _removal(id_: str) -> Any:
    # By id and without force the engine refuses what a container uses and what has names in several repositories.
    return lambda api: api.remove_image(id_, force=False, noprune=True)


def image_of(found: Mapping[str, Any]) -> Image:
    """An image as `GET /images/{id}/json` shows it."""
    named_at = _time((found.get("Metadata") or {}).get("LastTagTime") or "")
    return Image(
        id=found["Id"],
        tags=_names(found.get("RepoTags")),
        digests=_names(found.get("RepoDigests")),
        made_at=max(_time(found.get("Created") or ""), named_at),
        size_bytes=int(found["Size"]),
    )


def judge(
    seen: SeenImages, params: PruneImagesParams, connection: DockerConnection
) -> list[tuple[Image, str]]:
    """Every image with the reason why it stays; empty where it may go."""
    cutoff = seen.now - timedelta(seconds=params.older_than_seconds)
    newest = _newest(seen.images, params.keep_newest_images)
    return [(image, _stays(image, seen.used, newest, cutoff, connection)) for image in seen.images]


def choose(
    seen: SeenImages, params: PruneImagesParams, connection: DockerConnection
) -> tuple[list[Image], Counter[str]]:
    """The images that go, the oldest first, and how many stay for which reason."""
    judged = judge(seen, params, connection)
    kept = Counter(why for _, why in judged if why)
    may_go = sorted((image for image, why in judged if not why), key=lambda image: (image.made_at, image.id))
    if len(may_go) > params.max_images:
        kept["for another time"] = len(may_go) - params.max_images
    return may_go[: params.max_images], kept


def _newest(images: Iterable[Image], number: int) -> frozenset[str]:
    grouped: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        for repository in image.repositories:
            grouped[repository].append(image)
    ranked = (sorted(group, key=lambda image: image.made_at, reverse=True) for group in grouped.values())
    return frozenset(image.id for group in ranked for image in group[:number])


def _stays(
    image: Image,
    used: frozenset[str],
    newest: frozenset[str],
    cutoff: datetime,
    connection: DockerConnection,
) -> str:
    digests = {image.id, *(digest.partition("@")[2] for digest in image.digests)}
    may_be = {*connection.image_repositories, *([UNTAGGED] if connection.prune_untagged else [])}
    reasons = (
        (image.id in used, "in use"),
        (not image.repositories <= may_be, "not ours to prune"),
        (any(tag.rpartition(":")[2] in connection.keep_tags for tag in image.tags), "to roll back to"),
        (bool(digests & set(connection.keep_digests)), "to roll back to"),
        (image.id in newest, "among the newest"),
        (image.made_at > cutoff, "too young"),
        (len(image.tags) > 1, "with several tags"),
    )
    return next((why for holds, why in reasons if holds), "")


def _names(found: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(sorted(name for name in found or () if not name.startswith("<none>")))


def _time(text: str) -> datetime:
    """The engine's time, which has nanoseconds; the year 1 where it says none."""
    if not text:
        return datetime.min.replace(tzinfo=UTC)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
