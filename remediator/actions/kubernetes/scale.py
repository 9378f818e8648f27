"""kubernetes.scale: another number of replicas, within what is safe, where no autoscaler owns that number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.actions.kubernetes.cluster import MERGE, Object
from remediator.actions.kubernetes.connection import (
    KubernetesAction,
    KubernetesConnection,
    Name,
    allowed,
    rule,
)
from remediator.actions.kubernetes.gitops import refuse_reverted
from remediator.actions.kubernetes.workloads import RESOURCES, Workload, Workloads, must_hold
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, Refused
from remediator.pipeline.ports import Permissions

AUTOSCALERS = "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"

ScalableName = Annotated[
    str, StringConstraints(pattern=r"^(Deployment|StatefulSet)/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
]


class ScaleParams(BaseModel):
    """Parameters of `kubernetes.scale`. Scaling to none is stopping, and not done here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    workload: ScalableName = Field(description="such as Deployment/api")
    replicas: int | None = Field(default=None, ge=1, le=1000, description="the wanted number; or else `step`")
    step: int | None = Field(default=None, ge=-100, le=100, description="so many more (or less, below 0)")
    min_replicas: int = Field(default=1, ge=1, le=1000, description="never below this many")
    max_replicas: int = Field(
        ge=1, le=1000, description="never above; the connection's own maximum holds too"
    )

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if (self.replicas is None) == (not self.step):
            raise ValueError("give either replicas or a step other than 0")
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self


@dataclass(frozen=True, slots=True)
class SeenScale:
    """The workload, the autoscalers that aim at it, and the connection's maximum for it."""

    workload: Workload | None
    autoscalers: tuple[str, ...]
    ceiling: int


class Scale(KubernetesAction):
    """Set the replicas of a Deployment or StatefulSet within a maximum; refused where an autoscaler owns them."""

    kind: ClassVar[str] = "kubernetes.scale"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = ScaleParams

    def __init__(self, connection: KubernetesConnection) -> None:
        super().__init__(connection)
        self._workloads = Workloads(self._cluster)

    async def observe(self, params: ScaleParams) -> SeenScale:
        """Read the workload and the autoscalers of its namespace."""
        limits = self._connection.namespace(params.namespace).max_replicas
        allowed(params.workload, "scaling of", limits)
        found = await self._workloads.find(params.namespace, params.workload)
        return SeenScale(found, await self._owners(params), limits[params.workload])

    def plan(self, params: ScaleParams, seen: SeenScale) -> tuple[Effect, ...]:
        """One effect: from the replicas that were seen to the wanted ones."""
        found = seen.workload
        if found is None:
            raise NothingSelected(f"there is no {params.workload} in {params.namespace}")
        _refuse_owned(found.subject, seen.autoscalers)
        refuse_reverted(found.object, found.subject, "spec", "replicas")
        wanted = _wanted(params, found, min(params.max_replicas, seen.ceiling))
        return (
            Effect(
                action=self.kind,
                subject=found.subject,
                params=params.model_dump(mode="json"),
                summary=f"scale {found.subject} {found.replicas} -> {wanted} ({found.rollout.ready} ready now)",
                before={"uid": found.uid, "replicas": found.replicas},
                after={"replicas": wanted},
                figures={"replicas": wanted, "ready": found.rollout.ready},
                undo=f"scale it back to {found.replicas}",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Set the number through the scale subresource, unless it is that already."""
        params = ScaleParams.model_validate(effect.params)
        before, wanted = effect.before["replicas"], effect.after["replicas"]
        seen = await self.observe(params)
        if wanted > min(params.max_replicas, seen.ceiling):
            raise Refused(f"{effect.subject}: {wanted} replicas are above the maximum")
        _refuse_owned(effect.subject, seen.autoscalers)
        if not await self._set(params, effect.before["uid"], before, wanted):
            return Result(f"{effect.subject} has {wanted} replicas already", changed=False)
        return Result(f"scaled {effect.subject} {before} -> {wanted}", evidence={"replicas": wanted})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Set the number that was, if nobody has set another one since."""
        params = ScaleParams.model_validate(effect.params)
        before, wanted = effect.before["replicas"], effect.after["replicas"]
        seen = await self.observe(params)
        _refuse_owned(effect.subject, seen.autoscalers)
        if not await self._set(params, effect.before["uid"], wanted, before):
            return Result(f"{effect.subject} has {before} replicas already", changed=False)
        return Result(f"scaled {effect.subject} back {wanted} -> {before}")

    def progress(self, effect: Effect, seen: SeenScale) -> Progress:
        """Done where the wanted number stands."""
        found = seen.workload
        if found is None or found.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        if found.replicas == effect.after["replicas"]:
            return Progress.DONE
        return Progress.UNTOUCHED if found.replicas == effect.before["replicas"] else Progress.UNCLEAR

    def permissions(self, params: ScaleParams) -> Permissions:
        """Reading the workload and the autoscalers, and setting its scale."""
        kind, name = params.workload.split("/", 1)
        where = params.namespace
        return Permissions(
            kubernetes=(
                rule("apps", RESOURCES[kind], "get", namespace=where, names=(name,)),
                rule("apps", f"{RESOURCES[kind]}/scale", "patch", namespace=where, names=(name,)),
                rule("autoscaling", "horizontalpodautoscalers", "list", namespace=where),
            )
        )

    async def _owners(self, params: ScaleParams) -> tuple[str, ...]:
        kind, name = params.workload.split("/", 1)
        found = await self._cluster.every(AUTOSCALERS, namespace=params.namespace)
        aims = ((one["metadata"]["name"], one["spec"]["scaleTargetRef"]) for one in found)
        return tuple(hpa for hpa, aim in aims if (aim["kind"], aim["name"]) == (kind, name))

    async def _set(self, params: ScaleParams, uid: str, expected: int, wanted: int) -> bool:
        def body(found: Workload) -> Object | None:
            if found.uid == uid and found.replicas == wanted:
                return None
            must_hold(
                found.subject,
                {"uid": uid, "replicas": expected},
                {"uid": found.uid, "replicas": found.replicas},
            )
            return {"spec": {"replicas": wanted}}

        return await self._workloads.change(params.namespace, params.workload, body, how=MERGE, part="/scale")


def _refuse_owned(subject: str, autoscalers: tuple[str, ...]) -> None:
    if autoscalers:
        raise Refused(
            f"the autoscaler {', '.join(autoscalers)} owns the replicas of {subject}: "
            "raise its ceiling with kubernetes.raise_hpa_ceiling"
        )


def _wanted(params: ScaleParams, found: Workload, ceiling: int) -> int:
    asked = params.replicas if params.replicas is not None else found.replicas + (params.step or 0)
    if asked > found.replicas >= ceiling:
        raise Refused(
            f"{found.subject} has {found.replicas} replicas, and {ceiling} is the most that is safe"
        )
    if asked < found.replicas <= params.min_replicas:
        raise Refused(
            f"{found.subject} has {found.replicas} replicas, and {params.min_replicas} is the least"
        )
    wanted = max(params.min_replicas, min(asked, ceiling))
    if params.replicas is not None and wanted != params.replicas:
        raise Refused(
            f"{params.replicas} replicas are outside {params.min_replicas}..{ceiling} for {found.subject}"
        )
    if wanted == found.replicas:
        raise NothingSelected(f"{found.subject} has {wanted} replicas already")
    if found.replicas == 0:
        raise Refused(f"{found.subject} is scaled to none: somebody stopped it")
    return wanted
