"""s3.put_lifecycle: one rule of a bucket's lifecycle; the other rules stay as they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.actions.s3.connection import (
    BucketName,
    Prefix,
    S3Action,
    StorageClass,
    asking,
    changing,
    code,
    statement,
    url_of,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions
from remediator.stoppable import Stop, stoppable

Rule = dict[str, Any]
Days = Annotated[int, Field(ge=1, le=36_500)]


class PutLifecycleParams(BaseModel):
    """Parameters of `s3.put_lifecycle`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    bucket: BucketName = Field(description="one of the connection's buckets")
    rule_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,120}$")] = Field(
        description="the rule's name; one of that name is replaced"
    )
    prefix: Prefix = Field(description="the objects it is about; the connection must allow it")
    transition_days: Days | None = Field(
        default=None, description="after how many days objects move to the storage class"
    )
    storage_class: StorageClass | None = Field(default=None, description="where they move to")
    expire_days: Days | None = Field(default=None, description="after how many days objects are removed")
    expire_noncurrent_days: Days | None = Field(
        default=None, description="how many days after they were replaced old versions are removed"
    )
    abort_uploads_days: Days | None = Field(
        default=None, description="after how many days uploads that were never finished are removed"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if (self.transition_days is None) != (self.storage_class is None):
            raise ValueError("transition_days and storage_class go together")
        if all(
            days is None
            for days in (
                self.transition_days,
                self.expire_days,
                self.expire_noncurrent_days,
                self.abort_uploads_days,
            )
        ):
            raise ValueError("expected at least one of transition, expiry and abort")
        if self.transition_days and self.expire_days and self.expire_days <= self.transition_days:
            raise ValueError("expire_days has to be above transition_days")
        return self

    @property
    def destroys(self) -> bool:
        """Whether objects are removed by it, and do not only move."""
        return self.expire_days is not None or self.expire_noncurrent_days is not None

    def rule(self) -> Rule:
        """As S3 has it."""
        told: Rule = {"ID": self.rule_id, "Status": "Enabled", "Filter": {"Prefix": self.prefix}}
        if self.transition_days is not None:
            told["Transitions"] = [{"Days": self.transition_days, "StorageClass": self.storage_class}]
        if self.expire_days is not None:
            told["Expiration"] = {"Days": self.expire_days}
        if self.expire_noncurrent_days is not None:
            told["NoncurrentVersionExpiration"] = {"NoncurrentDays": self.expire_noncurrent_days}
        if self.abort_uploads_days is not None:
            told["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": self.abort_uploads_days}
        return told


@dataclass(frozen=True, slots=True)
class SeenRules:
    """All rules of the bucket."""

    rules: tuple[Rule, ...]

    @property
    def digest(self) -> str:
        """What tells one set of rules from another."""
        text = json.dumps(sorted(self.rules, key=lambda rule: str(rule.get("ID", ""))), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, rule_id: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.get("ID") == rule_id), None)


class PutLifecycle(S3Action):
    """Add or replace one lifecycle rule of a bucket, so that S3 itself moves or expires what is old."""

    kind: ClassVar[str] = "s3.put_lifecycle"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = PutLifecycleParams

    async def observe(self, params: PutLifecycleParams) -> SeenRules:
        """Read the bucket's rules."""
        self._check(params)
        return await stoppable(self._see, params.bucket)

    def plan(self, params: PutLifecycleParams, seen: SeenRules) -> tuple[Effect, ...]:
        """One effect: one rule; irreversible where it removes objects."""
        there = seen.find(params.rule_id)
        if there is not None and same(there, params.rule()):
            raise NothingSelected(f"{params.bucket} has the rule {params.rule_id} already")
        others = len(seen.rules) - (there is not None)
        verb = "add" if there is None else "replace"
        undo = "remove the rule" if there is None else "put the previous rule back"
        return (
            Effect(
                action=self.kind,
                subject=f"lifecycle of s3://{params.bucket}",
                params=params.model_dump(mode="json"),
                summary=f"{verb} the lifecycle rule {params.rule_id} of {url_of(params.bucket, params.prefix)}: "
                f"{_told(params)}; {others} other rules stay",
                before={"rules": seen.digest},
                after={"rule": params.rule()},
                figures={"other_rules": others},
                undo=undo + ("; objects that it removed by then stay removed" if params.destroys else ""),
                irreversible=params.destroys,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Write all rules, ours among them, if they are those that were planned on."""
        params = PutLifecycleParams.model_validate(effect.params)
        self._check(params)
        return await stoppable(self._apply, params, effect)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Write the previous rules, if nobody has changed them since."""
        params = PutLifecycleParams.model_validate(effect.params)
        self._check(params)
        if "rules" not in result.captured:
            raise Refused("the previous rules are not known")
        return await stoppable(self._undo, params, effect, result)

    def progress(self, effect: Effect, seen: SeenRules) -> Progress:
        """Done where the rule is there as wanted."""
        wanted = effect.after["rule"]
        there = seen.find(str(wanted["ID"]))
        if there is not None and same(there, wanted):
            return Progress.DONE
        return Progress.UNTOUCHED if seen.digest == effect.before["rules"] else Progress.UNCLEAR

    def permissions(self, params: PutLifecycleParams) -> Permissions:
        """Reading and writing the lifecycle of the bucket; S3 knows none for a single rule."""
        return Permissions(
            iam=(
                statement(("GetLifecycleConfiguration",), params.bucket),
                statement(("PutLifecycleConfiguration",), params.bucket),
            )
        )

    def _check(self, params: PutLifecycleParams) -> None:
        bucket = self._bucket(params.bucket, params.prefix)
        for days in (params.expire_days, params.expire_noncurrent_days):
            if days is not None and days < bucket.min_expire_days:
                raise Refused(
                    f"in {params.bucket} nothing expires before {bucket.min_expire_days} days, and not after {days}"
                )

    def _see(self, stop: Stop, bucket: str) -> SeenRules:
        from botocore.exceptions import ClientError

        with asking(f"lifecycle of {bucket}"):
            try:
                answer = self._s3.get_bucket_lifecycle_configuration(Bucket=bucket)
            except ClientError as error:
                if code(error) == "NoSuchLifecycleConfiguration":
                    return SeenRules(())
                raise
        return SeenRules(tuple(_plain(rule) for rule in answer.get("Rules", [])))

    def _write(self, bucket: str, rules: list[Rule]) -> None:
        with changing(f"lifecycle of {bucket}"):
            if rules:
                configuration: Any = {"Rules": rules}
                self._s3.put_bucket_lifecycle_configuration(
                    Bucket=bucket, LifecycleConfiguration=configuration
                )
            else:
                self._s3.delete_bucket_lifecycle(Bucket=bucket)

    def _apply(self, stop: Stop, params: PutLifecycleParams, effect: Effect) -> Result:
        seen = self._see(stop, params.bucket)
        there = seen.find(params.rule_id)
        if there is not None and same(there, params.rule()):
            return Result(f"{params.bucket} has the rule {params.rule_id} already", changed=False)
        if seen.digest != effect.before["rules"]:
            raise Drifted(f"the lifecycle of {params.bucket} is another than was planned on")
        stop.check()
        others = [rule for rule in seen.rules if rule.get("ID") != params.rule_id]
        self._write(params.bucket, [*others, params.rule()])
        return Result(
            f"{params.bucket} has the lifecycle rule {params.rule_id}",
            captured={"rules": list(seen.rules), "digest": self._see(stop, params.bucket).digest},
        )

    def _undo(self, stop: Stop, params: PutLifecycleParams, effect: Effect, result: Result) -> Result:
        seen = self._see(stop, params.bucket)
        if seen.digest == effect.before["rules"]:
            return Result(f"the lifecycle of {params.bucket} is as it was already", changed=False)
        if seen.digest != result.captured["digest"]:
            raise Drifted(f"the lifecycle of {params.bucket} was changed by somebody else since")
        self._write(params.bucket, list(result.captured["rules"]))
        return Result(f"the lifecycle of {params.bucket} is as it was before")


def same(one: Rule, other: Rule) -> bool:
    """Whether two rules say the same, however they are written."""
    return _normal(one) == _normal(other)


def _normal(rule: Rule) -> Rule:
    told = {name: value for name, value in rule.items() if value not in ({}, [], None, "")}
    told.pop("Prefix", None)
    told["Filter"] = {"Prefix": (rule.get("Filter") or {}).get("Prefix", rule.get("Prefix", ""))}
    return told


def _plain(rule: Any) -> Rule:
    """As JSON has it: dates as text, which S3's client takes as well."""
    text = json.dumps(
        rule, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)
    )
    told: Rule = json.loads(text)
    return told


def _told(params: PutLifecycleParams) -> str:
    told = []
    if params.transition_days is not None:
        told.append(f"to {params.storage_class} after {params.transition_days} days")
    if params.expire_days is not None:
        told.append(f"removed after {params.expire_days} days")
    if params.expire_noncurrent_days is not None:
        told.append(f"old versions removed after {params.expire_noncurrent_days} days")
    if params.abort_uploads_days is not None:
        told.append(f"unfinished uploads removed after {params.abort_uploads_days} days")
    return ", ".join(told)
