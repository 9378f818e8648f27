"""s3.restore_from_glacier: ask for readable copies of archived objects, for some days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.s3.connection import (
    BucketName,
    ObjectKey,
    S3Action,
    asking,
    changing,
    code,
    statement,
    url_of,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.figures import figure
from remediator.pipeline.ports import Permissions
from remediator.stoppable import Stop, stoppable

ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects have to be restored before they are read."""


class RestoreFromGlacierParams(BaseModel):
    """Parameters of `s3.restore_from_glacier`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    bucket: BucketName = Field(description="one of the connection's buckets")
    keys: Annotated[tuple[ObjectKey, ...], Field(min_length=1, max_length=100)] = Field(
        description="exactly these objects; the connection must allow a prefix of each"
    )
    days: int = Field(ge=1, le=90, description="how long the copies stay: long enough to read them all")
    tier: Literal["Standard", "Bulk", "Expedited"] = Field(
        default="Standard",
        description="Standard takes 3 to 5 hours (12 from Deep Archive), Bulk is cheaper and slower, Expedited dear",
    )
    max_bytes: int = Field(
        default=100 * 10**9, gt=0, description="no more than so much, since it is paid by volume"
    )


@dataclass(frozen=True, slots=True)
class Archived:
    """One object. `restore` is what S3 says of a restore: none, ongoing or there."""

    etag: str
    size_bytes: int
    storage_class: str
    restore: Literal["none", "ongoing", "there"]


SeenArchive = Mapping[str, Archived]
"""Objects by key."""


class RestoreFromGlacier(S3Action):
    """Ask S3 for temporary readable copies of exactly these archived objects; they come hours later."""

    kind: ClassVar[str] = "s3.restore_from_glacier"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RestoreFromGlacierParams

    async def observe(self, params: RestoreFromGlacierParams) -> SeenArchive:
        """Ask for each object."""
        self._bucket(params.bucket, *params.keys)
        return await stoppable(self._see, params)

    def plan(self, params: RestoreFromGlacierParams, seen: SeenArchive) -> tuple[Effect, ...]:
        """An effect for each object that is archived and not asked for."""
        goes = {
            key: one for key, one in seen.items() if one.storage_class in ARCHIVED and one.restore == "none"
        }
        if not goes:
            told = ", ".join(
                f"{key}: {one.storage_class}, restore {one.restore}" for key, one in seen.items()
            )
            raise NothingSelected(f"none of these objects has to be asked for ({told})")
        volume = sum(one.size_bytes for one in goes.values())
        if volume > params.max_bytes:
            raise Refused(f"{figure('bytes', volume)} are more than {figure('bytes', params.max_bytes)}")
        deep = [key for key, one in goes.items() if one.storage_class == "DEEP_ARCHIVE"]
        if deep and params.tier == "Expedited":
            raise Refused(f"the tier Expedited is not for Deep Archive ({', '.join(deep)})")
        return tuple(self._effect(params, key, one) for key, one in goes.items())

    async def apply(self, effect: Effect) -> Result:
        """Ask, unless that was done."""
        params = RestoreFromGlacierParams.model_validate(effect.params)
        key = str(effect.before["key"])
        if key not in params.keys:
            raise Refused(f"{key} is none of the keys that were asked for")
        self._bucket(params.bucket, *params.keys)
        return await stoppable(self._apply, params, effect, key)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("there is nothing to take back: the copies go by themselves after their days")

    def progress(self, effect: Effect, seen: SeenArchive) -> Progress:
        """Done where S3 says that it is being restored, or is."""
        one = seen.get(str(effect.before["key"]))
        if one is None or one.etag != effect.before["etag"]:
            return Progress.UNCLEAR
        return Progress.UNTOUCHED if one.restore == "none" else Progress.DONE

    def permissions(self, params: RestoreFromGlacierParams) -> Permissions:
        """Asking for these objects, and seeing their state."""
        return Permissions(
            iam=tuple(statement(("GetObject", "RestoreObject"), params.bucket, key) for key in params.keys)
        )

    def _effect(self, params: RestoreFromGlacierParams, key: str, one: Archived) -> Effect:
        url = url_of(params.bucket, key)
        return Effect(
            action=self.kind,
            subject=url,
            params=params.model_dump(mode="json"),
            summary=f"ask for {url} ({figure('bytes', one.size_bytes)}) from {one.storage_class}, tier {params.tier}, "
            f"readable for {params.days} days",
            before={"key": key, "etag": one.etag, "storage_class": one.storage_class},
            figures={"bytes": one.size_bytes},
        )

    def _see(self, stop: Stop, params: RestoreFromGlacierParams) -> SeenArchive:
        seen = {}
        for key in params.keys:
            stop.check()
            seen[key] = self._look(params.bucket, key)
        return seen

    def _look(self, bucket: str, key: str) -> Archived:
        with asking(url_of(bucket, key)):
            head: Any = self._s3.head_object(Bucket=bucket, Key=key)
        told = head.get("Restore", "")
        return Archived(
            etag=head["ETag"],
            size_bytes=head["ContentLength"],
            storage_class=head.get("StorageClass", "STANDARD"),
            restore="none" if not told else "ongoing" if 'ongoing-request="true"' in told else "there",
        )

    def _apply(self, stop: Stop, params: RestoreFromGlacierParams, effect: Effect, key: str) -> Result:
        from botocore.exceptions import ClientError

        url = url_of(params.bucket, key)
        now = self._look(params.bucket, key)
        if (now.etag, now.storage_class) != (effect.before["etag"], effect.before["storage_class"]):
            raise Drifted(f"{url} is another object than was planned on")
        if now.restore != "none":
            return Result(f"{url} was asked for already: {now.restore}", changed=False)
        stop.check()
        request: Any = {"Days": params.days, "GlacierJobParameters": {"Tier": params.tier}}
        with changing(f"restore of {url}"):
            try:
                self._s3.restore_object(Bucket=params.bucket, Key=key, RestoreRequest=request)
            except ClientError as error:
                if code(error) != "RestoreAlreadyInProgress":
                    raise
                return Result(f"{url} was asked for already", changed=False)
        return Result(f"asked for {url}; it is readable once S3 has restored it")
