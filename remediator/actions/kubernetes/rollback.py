"""kubernetes.rollout_undo: back to a revision that somebody verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
from remediator.actions.kubernetes.gitops import refuse_reverted
from remediator.actions.kubernetes.revisions import SOURCES, Revision, revisions
from remediator.actions.kubernetes.workloads import (
    RESOURCES,
    Workload,
    Workloads,
    cannot_roll,
    label_selector,
    must_hold,
    takes_down,
)
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions


class RolloutUndoParams(BaseModel):
    """Parameters of `kubernetes.rollout_undo`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    workload: WorkloadName = Field(description="such as Deployment/api")
    revision: int | None = Field(
        default=None,
        ge=1,
        description="its number; without it the newest verified one before the present one",
    )
    verified_annotation: str = Field(
        default="remediator/verified",
        pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        description='set to "true" on the ReplicaSet or ControllerRevision of a release that was seen to work',
    )
    pinned_images: bool = Field(
        default=True,
        description="refuse a revision whose images are not named by digest: they may have changed",
    )
    wait_seconds: int = Field(
        default=300, ge=1, le=3600, description="until all its pods are old and ready again"
    )
    accept_downtime: bool = Field(
        default=False, description="do it although its only pod, or all of them at once, stop first"
    )


@dataclass(frozen=True, slots=True)
class SeenRevisions:
    """The workload, None where there is none, and its revisions, the newest first."""

    workload: Workload | None
    revisions: tuple[Revision, ...]


class RolloutUndo(KubernetesAction):
    """Roll a workload back to a verified revision of its pod template; refused where Argo CD or Flux would revert that."""

    kind: ClassVar[str] = "kubernetes.rollout_undo"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RolloutUndoParams

    def __init__(self, connection: KubernetesConnection) -> None:
        super().__init__(connection)
        self._workloads = Workloads(self._cluster)

    async def observe(self, params: RolloutUndoParams) -> SeenRevisions:
        """Read the workload and its revisions."""
        allowed(params.workload, "workload", self._connection.namespace(params.namespace).workloads)
        found = await self._workloads.find(params.namespace, params.workload)
        if found is None:
            return SeenRevisions(None, ())
        selector = label_selector(found.spec["selector"])
        kept = await self._cluster.every(SOURCES[found.kind], labels=selector, namespace=params.namespace)
        return SeenRevisions(found, revisions(found, kept))

    def plan(self, params: RolloutUndoParams, seen: SeenRevisions) -> tuple[Effect, ...]:
        """One effect: from exactly this template to exactly that one."""
        found = seen.workload
        if found is None:
            raise NothingSelected(f"there is no {params.workload} in {params.namespace}")
        refuse_reverted(found.object, found.subject, "spec", "template")
        reason = cannot_roll(found)
        if reason:
            raise Refused(f"{found.subject} cannot be rolled back: {reason}")
        down = takes_down(found)
        if down and not params.accept_downtime:
            raise Refused(f"{found.subject}: {down}; accept_downtime is not set")
        now, target = _choose(params, found, seen.revisions)
        images = ", ".join(_short(image) for image in target.images)
        return (
            Effect(
                action=self.kind,
                subject=found.subject,
                params=params.model_dump(mode="json"),
                summary=(
                    f"roll {found.subject} back from revision {now.number} "
                    f"({', '.join(_short(image) for image in now.images)}) to {target.number} ({images}), "
                    f"{found.replicas} pods{', with downtime' if down else ''}"
                ),
                before={"uid": found.uid, "template": found.template},
                after={"template": target.digest},
                figures={"pods": found.replicas, "ready": found.rollout.ready},
                undo=f"roll it forward to revision {now.number} again",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Put the old template in place, unless it is, and wait for the rollout."""
        return await self._roll(effect, effect.before["template"], effect.after["template"], verified=True)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Put the newer template in place again, from the revision that the cluster keeps of it."""
        return await self._roll(effect, effect.after["template"], effect.before["template"], verified=False)

    def progress(self, effect: Effect, seen: SeenRevisions) -> Progress:
        """Done where the old template is rolled out."""
        found = seen.workload
        if found is None or found.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        if found.template == effect.after["template"]:
            return Progress.DONE if found.rollout.done else Progress.UNCLEAR
        return Progress.UNTOUCHED if found.template == effect.before["template"] else Progress.UNCLEAR

    def permissions(self, params: RolloutUndoParams) -> Permissions:
        """Reading and patching the one workload, and listing the revisions of its namespace."""
        kind, name = params.workload.split("/", 1)
        source = SOURCES[kind].rsplit("/", 1)[1]
        return Permissions(
            kubernetes=(
                rule("apps", RESOURCES[kind], "get patch", namespace=params.namespace, names=(name,)),
                rule("apps", source, "list", namespace=params.namespace),
            )
        )

    async def _roll(self, effect: Effect, expected: str, wanted: str, *, verified: bool) -> Result:
        params = RolloutUndoParams.model_validate(effect.params)
        seen = await self.observe(params)
        target = next((one for one in seen.revisions if one.digest == wanted), None)
        if target is None:
            raise Drifted(f"{effect.subject} keeps no revision with the planned template any more")
        if verified and not target.is_verified(params.verified_annotation):
            raise Drifted(f"revision {target.number} of {effect.subject} is not verified any more")
        template = {**target.template, "$patch": "replace"}

        def change(found: Workload) -> Object | None:
            if found.uid == effect.before["uid"] and found.template == wanted:
                return None
            expectation = {"uid": effect.before["uid"], "template": expected}
            must_hold(found.subject, expectation, {"uid": found.uid, "template": found.template})
            return {"spec": {"template": template}}

        changed = await self._workloads.change(params.namespace, params.workload, change, how=STRATEGIC)
        state = await self._workloads.rolled_out(
            params.namespace, params.workload, wanted, params.wait_seconds
        )
        told = f"{effect.subject} runs {', '.join(_short(image) for image in target.images)}: {state}"
        return Result(told, changed=changed, evidence={"ready": state.ready, "images": list(target.images)})


def _choose(
    params: RolloutUndoParams, found: Workload, kept: tuple[Revision, ...]
) -> tuple[Revision, Revision]:
    """The present revision and the one to go back to."""
    now = next((one for one in kept if one.digest == found.template), None)
    if now is None:
        raise Refused(f"{found.subject} has a template that its controller has not taken up yet")
    older = [one for one in kept if one.number < now.number and one.digest != now.digest]
    if params.revision is not None:
        older = [one for one in older if one.number == params.revision]
    if not older:
        raise NothingSelected(f"{found.subject} keeps no such older revision")
    verified = [one for one in older if one.is_verified(params.verified_annotation)]
    if not verified:
        numbers = ", ".join(str(one.number) for one in older)
        raise Refused(
            f"no revision of {found.subject} among {numbers} is marked {params.verified_annotation}=true"
        )
    target = verified[0]
    if params.pinned_images and not target.pinned:
        raise Refused(f"revision {target.number} of {found.subject} names an image without its digest")
    return now, target


def _short(image: str) -> str:
    name, _, digest = image.partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name
