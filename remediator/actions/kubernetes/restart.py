"""kubernetes.rollout_restart: new pods from the same template, a few at a time."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.kubernetes.cluster import STRATEGIC, Object
from remediator.actions.kubernetes.connection import (
    KubernetesAction,
    KubernetesConnection,
    Name,
    WorkloadName,
    allowed,
    rule,
)
from remediator.actions.kubernetes.workloads import (
    RESOURCES,
    Workload,
    Workloads,
    cannot_roll,
    must_hold,
    takes_down,
    template_digest,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import NothingSelected, Refused
from remediator.pipeline.ports import Permissions

ANNOTATION = "remediator/restart"
"""On the pod template; its value is made of the template that is restarted, so that it is set only once."""


class RolloutRestartParams(BaseModel):
    """Parameters of `kubernetes.rollout_restart`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    workload: WorkloadName = Field(description="such as Deployment/api")
    wait_seconds: int = Field(default=300, ge=1, le=3600, description="until all its pods are new and ready")
    accept_downtime: bool = Field(
        default=False, description="restart it although its only pod, or all of them at once, stop first"
    )


@dataclass(frozen=True, slots=True)
class SeenWorkload:
    """The workload, or None where there is none of that name."""

    workload: Workload | None


class RolloutRestart(KubernetesAction):
    """Replace the pods of a Deployment, StatefulSet or DaemonSet by its own rolling update, and wait until they are ready."""

    kind: ClassVar[str] = "kubernetes.rollout_restart"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RolloutRestartParams

    def __init__(self, connection: KubernetesConnection) -> None:
        super().__init__(connection)
        self._workloads = Workloads(self._cluster)

    async def observe(self, params: RolloutRestartParams) -> SeenWorkload:
        """Read the workload."""
        self._check(params)
        return SeenWorkload(await self._workloads.find(params.namespace, params.workload))

    def plan(self, params: RolloutRestartParams, seen: SeenWorkload) -> tuple[Effect, ...]:
        """One effect on exactly this template."""
        found = seen.workload
        if found is None or found.replicas == 0:
            raise NothingSelected(f"{params.workload} in {params.namespace} has no pods to restart")
        reason = cannot_roll(found)
        if reason:
            raise Refused(f"{found.subject} cannot be restarted by a rollout: {reason}")
        down = takes_down(found)
        if down and not params.accept_downtime:
            raise Refused(f"{found.subject}: {down}; accept_downtime is not set")
        pods = f"{found.replicas} pod{'s' if found.replicas > 1 else ''}, {found.rollout.ready} ready now"
        return (
            Effect(
                action=self.kind,
                subject=found.subject,
                params=params.model_dump(mode="json"),
                summary=f"rolling restart of {found.subject} ({pods}{'; with downtime' if down else ''})",
                before={"uid": found.uid, "template": found.template},
                after={"template": template_digest(_restarted(found))},
                figures={"pods": found.replicas, "ready": found.rollout.ready},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Annotate the template, unless that was done, and wait for the rollout."""
        params = RolloutRestartParams.model_validate(effect.params)
        self._check(params)
        before, wanted = effect.before, effect.after["template"]

        def body(found: Workload) -> Object | None:
            if found.uid == before["uid"] and found.template == wanted:
                return None
            must_hold(found.subject, before, {"uid": found.uid, "template": found.template})
            annotations = {ANNOTATION: restart_token(found)}
            return {"spec": {"template": {"metadata": {"annotations": annotations}}}}

        changed = await self._workloads.change(params.namespace, params.workload, body, how=STRATEGIC)
        state = await self._workloads.rolled_out(
            params.namespace, params.workload, wanted, params.wait_seconds
        )
        if not changed:
            return Result(f"{effect.subject} was already restarted: {state}", changed=False)
        return Result(f"restarted {effect.subject}: {state}", evidence={"ready": state.ready})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Nothing to take back: the same template runs again."""
        raise Refused("a restart has no inverse")

    def progress(self, effect: Effect, seen: SeenWorkload) -> Progress:
        """Done where the restarted template is rolled out."""
        found = seen.workload
        if found is None or found.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        if found.template == effect.after["template"]:
            return Progress.DONE if found.rollout.done else Progress.UNCLEAR
        return Progress.UNTOUCHED if found.template == effect.before["template"] else Progress.UNCLEAR

    def permissions(self, params: RolloutRestartParams) -> Permissions:
        """Reading and patching the one workload."""
        kind, name = params.workload.split("/", 1)
        return Permissions(
            kubernetes=(
                rule("apps", RESOURCES[kind], "get patch", namespace=params.namespace, names=(name,)),
            )
        )

    def _check(self, params: RolloutRestartParams) -> None:
        allowed(params.workload, "workload", self._connection.namespace(params.namespace).workloads)


def restart_token(workload: Workload) -> str:
    """What the annotation says after this template was restarted."""
    return hashlib.sha256(f"{workload.uid} {workload.template}".encode()).hexdigest()[:16]


def _restarted(workload: Workload) -> Object:
    template: dict[str, Any] = copy.deepcopy(dict(workload.spec["template"]))
    meta = template.setdefault("metadata", {})
    meta["annotations"] = {**(meta.get("annotations") or {}), ANNOTATION: restart_token(workload)}
    return template
