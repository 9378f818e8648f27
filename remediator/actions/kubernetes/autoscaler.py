"""kubernetes.raise_hpa_ceiling: let an autoscaler go higher, up to what is known to be safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remediator.actions.kubernetes.cluster import Object
from remediator.actions.kubernetes.connection import KubernetesAction, Name, allowed, rule
from remediator.actions.kubernetes.gitops import refuse_reverted
from remediator.actions.kubernetes.workloads import must_hold
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, Refused
from remediator.pipeline.ports import Permissions

PATH = "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{name}"


class RaiseHpaCeilingParams(BaseModel):
    """Parameters of `kubernetes.raise_hpa_ceiling`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    autoscaler: Name = Field(description="the HorizontalPodAutoscaler")
    ceiling_replicas: int | None = Field(
        default=None, ge=1, le=1000, description="the new one; or else `step`"
    )
    step: int | None = Field(default=None, ge=1, le=100, description="so many replicas above the present one")
    max_replicas: int = Field(
        ge=1, le=1000, description="never above; the connection's own maximum holds too"
    )

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if (self.ceiling_replicas is None) == (self.step is None):
            raise ValueError("give either ceiling_replicas or step")
        return self


@dataclass(frozen=True, slots=True)
class SeenAutoscaler:
    """An autoscaler as it was seen, None where there is none, and the connection's maximum for it."""

    object: Object | None
    limit: int


class RaiseHpaCeiling(KubernetesAction):
    """Raise the most replicas that a HorizontalPodAutoscaler may ask for; it never lowers them."""

    kind: ClassVar[str] = "kubernetes.raise_hpa_ceiling"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RaiseHpaCeilingParams

    async def observe(self, params: RaiseHpaCeilingParams) -> SeenAutoscaler:
        """Read the autoscaler."""
        limits = self._connection.namespace(params.namespace).autoscalers
        allowed(params.autoscaler, "autoscaler", limits)
        object_ = await self._cluster.get(PATH, namespace=params.namespace, name=params.autoscaler)
        return SeenAutoscaler(object_, limits[params.autoscaler])

    def plan(self, params: RaiseHpaCeilingParams, seen: SeenAutoscaler) -> tuple[Effect, ...]:
        """One effect: from the ceiling that was seen to a higher one."""
        subject = f"HorizontalPodAutoscaler/{params.autoscaler} in {params.namespace}"
        if seen.object is None:
            raise NothingSelected(f"there is no {subject}")
        refuse_reverted(seen.object, subject, "spec", "maxReplicas")
        now, limit = _ceiling(seen.object), min(params.max_replicas, seen.limit)
        asked = params.ceiling_replicas if params.ceiling_replicas is not None else now + (params.step or 0)
        wanted = min(asked, limit)
        if now >= limit:
            raise Refused(f"the ceiling of {subject} is {now}, and {limit} is the most that is safe")
        if params.ceiling_replicas is not None and asked > limit:
            raise Refused(
                f"a ceiling of {asked} is above the {limit} that is the most that is safe for {subject}"
            )
        if wanted <= now:
            raise NothingSelected(f"the ceiling of {subject} is {now} already")
        running = (seen.object.get("status") or {}).get("currentReplicas", 0)
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"raise the ceiling of {subject} {now} -> {wanted} replicas ({running} run now)",
                before={"uid": seen.object["metadata"]["uid"], "max_replicas": now},
                after={"max_replicas": wanted},
                figures={"replicas": wanted, "running": running},
                undo=f"lower the ceiling back to {now}",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Set the higher ceiling, unless it stands."""
        params = RaiseHpaCeilingParams.model_validate(effect.params)
        before, wanted = effect.before["max_replicas"], effect.after["max_replicas"]
        if not await self._set(params, effect, before, wanted):
            return Result(f"the ceiling of {effect.subject} is {wanted} already", changed=False)
        return Result(f"raised the ceiling of {effect.subject} {before} -> {wanted}")

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set the ceiling that was, if nobody has set another one since."""
        params = RaiseHpaCeilingParams.model_validate(effect.params)
        before, wanted = effect.before["max_replicas"], effect.after["max_replicas"]
        if not await self._set(params, effect, wanted, before):
            return Result(f"the ceiling of {effect.subject} is {before} already", changed=False)
        return Result(f"lowered the ceiling of {effect.subject} back {wanted} -> {before}")

    def progress(self, effect: Effect, seen: SeenAutoscaler) -> Progress:
        """Done where the higher ceiling stands."""
        if seen.object is None or seen.object["metadata"]["uid"] != effect.before["uid"]:
            return Progress.UNCLEAR
        now = _ceiling(seen.object)
        if now == effect.after["max_replicas"]:
            return Progress.DONE
        return Progress.UNTOUCHED if now == effect.before["max_replicas"] else Progress.UNCLEAR

    def permissions(self, params: RaiseHpaCeilingParams) -> Permissions:
        """Reading and patching the one autoscaler."""
        where, names = params.namespace, (params.autoscaler,)
        return Permissions(
            kubernetes=(
                rule("autoscaling", "horizontalpodautoscalers", "get patch", namespace=where, names=names),
            )
        )

    async def _set(self, params: RaiseHpaCeilingParams, effect: Effect, expected: int, wanted: int) -> bool:
        limits = self._connection.namespace(params.namespace).autoscalers
        allowed(params.autoscaler, "autoscaler", limits)
        if wanted > expected and wanted > min(params.max_replicas, limits[params.autoscaler]):
            raise Refused(f"a ceiling of {wanted} is above the most that is safe for {effect.subject}")
        uid = effect.before["uid"]

        def change(found: Object) -> Object | None:
            now = {"uid": found["metadata"]["uid"], "max_replicas": _ceiling(found)}
            if now == {"uid": uid, "max_replicas": wanted}:
                return None
            must_hold(effect.subject, {"uid": uid, "max_replicas": expected}, now)
            return {"spec": {"maxReplicas": wanted}}

        return await self._cluster.change(PATH, change, namespace=params.namespace, name=params.autoscaler)


def _ceiling(object_: Object) -> int:
    ceiling: int = object_["spec"]["maxReplicas"]
    return ceiling
