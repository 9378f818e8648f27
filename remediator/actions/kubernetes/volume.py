"""kubernetes.grow_volume: ask for a larger volume where its storage class can grow it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remediator.actions.kubernetes.cluster import Object
from remediator.actions.kubernetes.connection import KubernetesAction, Name, allowed, rule
from remediator.actions.kubernetes.gitops import refuse_reverted
from remediator.actions.kubernetes.workloads import must_hold
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, PermanentFailure, Refused
from remediator.pipeline.ports import Permissions

CLAIM = "/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
STORAGE_CLASS = "/apis/storage.k8s.io/v1/storageclasses/{name}"

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d+)|([KMGTPE]i)|([numkMGTPE]))?")
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
}  # fmt: skip


class GrowVolumeParams(BaseModel):
    """Parameters of `kubernetes.grow_volume`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    claim: Name = Field(description="the PersistentVolumeClaim")
    size_bytes: int | None = Field(
        default=None, ge=1, le=2**50, description="the new size; or else `add_bytes`"
    )
    add_bytes: int | None = Field(default=None, ge=1, le=2**50, description="so much above the present size")
    max_bytes: int = Field(ge=1, le=2**50, description="never above; the connection's own maximum holds too")
    storage_class: Name = Field(description="the class that the claim is of; RBAC is printed for it alone")

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if (self.size_bytes is None) == (self.add_bytes is None):
            raise ValueError("give either size_bytes or add_bytes")
        return self


@dataclass(frozen=True, slots=True)
class SeenClaim:
    """A claim as it was seen, None where there is none; whether its class can grow; the connection's maximum."""

    object: Object | None
    expandable: bool
    limit: int


class GrowVolume(KubernetesAction):
    """Raise the storage that a PersistentVolumeClaim asks for, within a maximum; a volume never shrinks again."""

    kind: ClassVar[str] = "kubernetes.grow_volume"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = GrowVolumeParams

    async def observe(self, params: GrowVolumeParams) -> SeenClaim:
        """Read the claim and its storage class."""
        limits = self._connection.namespace(params.namespace).volume_claims_bytes
        allowed(params.claim, "volume claim", limits)
        claim = await self._cluster.get(CLAIM, namespace=params.namespace, name=params.claim)
        class_ = await self._cluster.get(STORAGE_CLASS, name=params.storage_class)
        expandable = class_ is not None and bool(class_.get("allowVolumeExpansion"))
        return SeenClaim(claim, expandable, limits[params.claim])

    def plan(self, params: GrowVolumeParams, seen: SeenClaim) -> tuple[Effect, ...]:
        """One effect: from the size that was asked for to a larger one."""
        subject = f"PersistentVolumeClaim/{params.claim} in {params.namespace}"
        if seen.object is None:
            raise NothingSelected(f"there is no {subject}")
        refuse_reverted(seen.object, subject, "spec", "resources", "requests", "storage")
        self._check(params, subject, seen)
        now, limit = _asked(seen.object), min(params.max_bytes, seen.limit)
        asked = params.size_bytes if params.size_bytes is not None else now + (params.add_bytes or 0)
        if now >= limit or (params.size_bytes or 0) > limit:
            raise Refused(
                f"{subject} asks for {now:,} bytes; {asked:,} is above the most that is allowed, {limit:,}"
            )
        wanted = min(asked, limit)
        if wanted <= now:
            raise NothingSelected(f"{subject} asks for {now:,} bytes already, and a volume never shrinks")
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=(
                    f"grow {subject} from {now / 2**30:,.1f} GiB to {wanted / 2**30:,.1f} GiB "
                    f"(storage class {params.storage_class}); it cannot be made smaller again"
                ),
                before={"uid": seen.object["metadata"]["uid"], "bytes": now},
                after={"bytes": wanted},
                figures={"bytes": wanted, "added_bytes": wanted - now},
                irreversible=True,
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Ask for the larger size, unless it is asked for."""
        params = GrowVolumeParams.model_validate(effect.params)
        seen = await self.observe(params)
        before, wanted = effect.before["bytes"], effect.after["bytes"]
        if seen.object is not None:
            self._check(params, effect.subject, seen)
        if wanted > min(params.max_bytes, seen.limit):
            raise Refused(f"{wanted:,} bytes are above the most that is allowed for {effect.subject}")

        def change(found: Object) -> Object | None:
            now = {"uid": found["metadata"]["uid"], "bytes": _asked(found)}
            if now == {"uid": effect.before["uid"], "bytes": wanted}:
                return None
            must_hold(effect.subject, effect.before, now)
            return {"spec": {"resources": {"requests": {"storage": quantity(wanted)}}}}

        if not await self._cluster.change(CLAIM, change, namespace=params.namespace, name=params.claim):
            return Result(f"{effect.subject} asks for {wanted:,} bytes already", changed=False)
        return Result(
            f"asked for {wanted:,} bytes instead of {before:,} for {effect.subject}",
            evidence={"bytes": wanted},
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """There is none."""
        raise Refused("a volume cannot be made smaller")

    def progress(self, effect: Effect, seen: SeenClaim) -> Progress:
        """Done where the larger size is asked for."""
        if seen.object is None or seen.object["metadata"]["uid"] != effect.before["uid"]:
            return Progress.UNCLEAR
        now = _asked(seen.object)
        if now == effect.after["bytes"]:
            return Progress.DONE
        return Progress.UNTOUCHED if now == effect.before["bytes"] else Progress.UNCLEAR

    def permissions(self, params: GrowVolumeParams) -> Permissions:
        """Reading and patching the claim, and reading its storage class."""
        where, names = params.namespace, (params.claim,)
        return Permissions(
            kubernetes=(
                rule("", "persistentvolumeclaims", "get patch", namespace=where, names=names),
                rule("storage.k8s.io", "storageclasses", "get", names=(params.storage_class,)),
            )
        )

    def _check(self, params: GrowVolumeParams, subject: str, seen: SeenClaim) -> None:
        assert seen.object is not None
        class_ = seen.object["spec"].get("storageClassName")
        if class_ != params.storage_class:
            raise Refused(f"{subject} is of the storage class {class_}, not {params.storage_class}")
        if not seen.expandable:
            raise Refused(f"the storage class {class_} does not allow volumes to grow")
        phase = (seen.object.get("status") or {}).get("phase")
        if phase != "Bound":
            raise Refused(f"{subject} is {phase}, not Bound")


def quantity_bytes(text: str) -> int:
    """Read a Kubernetes quantity such as `10Gi`, `1.5T` or `1e9`, rounded up to whole bytes.

    Raises:
        PermanentFailure: when it is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise PermanentFailure(f"{text!r} is not a quantity")
    number, exponent, binary, decimal = found.groups()
    value = Decimal(number + (exponent or ""))
    value *= _BINARY.get(binary or "", 1)
    value *= _DECIMAL.get(decimal or "", 1)
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def quantity(size_bytes: int) -> str:
    """Write bytes as Kubernetes would: in the largest binary unit that says them exactly."""
    unit, size = max(
        ((unit, size) for unit, size in _BINARY.items() if size_bytes % size == 0),
        key=lambda u: u[1],
        default=("", 1),
    )
    return f"{size_bytes // size}{unit}"


def _asked(claim: Object) -> int:
    return quantity_bytes(claim["spec"]["resources"]["requests"]["storage"])
