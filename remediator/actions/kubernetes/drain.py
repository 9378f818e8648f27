"""kubernetes.drain: cordon a node and evict its pods, as far as disruption budgets allow, within a time."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.kubernetes.cluster import Held, Object
from remediator.actions.kubernetes.connection import KubernetesAction, Name, rule
from remediator.actions.kubernetes.evict import evict
from remediator.actions.kubernetes.nodes import (
    NODES,
    Node,
    node,
    node_permissions,
    require_others,
    set_cordon,
)
from remediator.actions.kubernetes.workloads import must_hold
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown, Refused, TemporaryFailure
from remediator.pipeline.ports import Permissions

ALL_PODS = "/api/v1/pods"

_POLL_SECONDS = 0.5


class DrainParams(BaseModel):
    """Parameters of `kubernetes.drain`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    node: Name = Field(description="one of the connection's nodes")
    max_pods: int = Field(default=50, ge=1, le=500, description="a node with more is not drained")
    wait_seconds: int = Field(
        default=600, ge=1, le=7200, description="until its pods are gone, budgets included"
    )
    min_schedulable_nodes: int = Field(
        default=1, ge=1, le=1000, description="how many other nodes must be ready and take pods"
    )
    lose_empty_dirs: bool = Field(
        default=False, description="evict pods that keep data in an emptyDir, which is lost"
    )


@dataclass(frozen=True, slots=True)
class DrainedPod:
    """A pod on the node. `stays` says why it is left there, `blocks` why it may not be evicted."""

    namespace: str
    name: str
    uid: str
    leaving: bool
    stays: str = ""
    blocks: str = ""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """The node, None where there is none, and the pods on it."""

    node: Node | None
    pods: tuple[DrainedPod, ...]

    @property
    def going(self) -> tuple[DrainedPod, ...]:
        """The pods that a drain has to get rid of."""
        return tuple(pod for pod in self.pods if not pod.stays)


class Drain(KubernetesAction):
    """Cordon a node and evict its pods through the Eviction API; DaemonSet pods stay and disruption budgets hold."""

    kind: ClassVar[str] = "kubernetes.drain"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = DrainParams

    async def observe(self, params: DrainParams) -> SeenNode:
        """Read the nodes and the pods on this one."""
        every = await self._cluster.every(NODES)
        found = next((one for one in every if one["metadata"]["name"] == params.node), None)
        self._connection.check_node(params.node, (found or {}).get("metadata", {}).get("labels") or {})
        if found is None:
            return SeenNode(None, ())
        return SeenNode(node(found, every), await self._pods(params))

    def plan(self, params: DrainParams, seen: SeenNode) -> tuple[Effect, ...]:
        """One effect on the node, bounded by the number of pods that were seen."""
        if seen.node is None:
            raise NothingSelected(f"there is no node {params.node}")
        going, subject = seen.going, seen.node.subject
        if not going:
            raise NothingSelected(f"{subject} has no pods that a drain would evict")
        blocked = [f"{pod.namespace}/{pod.name} {pod.blocks}" for pod in going if pod.blocks]
        if blocked:
            raise Refused(f"{subject} cannot be drained: {'; '.join(blocked)}")
        if len(going) > params.max_pods:
            raise Refused(f"{subject} has {len(going)} pods to evict, more than {params.max_pods}")
        require_others(seen.node, params.min_schedulable_nodes)
        stay = len(seen.pods) - len(going)
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=(
                    f"drain {subject}: cordon it and evict {len(going)} pods, {stay} stay; "
                    f"{seen.node.others} other nodes take pods"
                ),
                before={"uid": seen.node.uid},
                after={"cordoned": True},
                figures={"pods": len(going), "others": seen.node.others},
                at_most={"pods": min(params.max_pods, len(going) + 5)},
                undo="" if seen.node.cordoned else "uncordon it; the pods stay where they are by then",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Cordon, evict what may go, and wait until it is gone.

        Where a budget lets no pod go, the node is uncordoned again. Where the time runs out in the middle, it
        stays cordoned, and OutcomeUnknown says which pods are left.
        """
        params = DrainParams.model_validate(effect.params)
        seen = await self.observe(params)
        if seen.node is None:
            raise Drifted(f"there is no {effect.subject} any more")
        must_hold(effect.subject, effect.before, {"uid": seen.node.uid})
        going = seen.going
        if seen.node.cordoned and not going:
            return Result(f"{effect.subject} is drained already", changed=False)
        bound = effect.at_most["pods"]
        if len(going) > bound:
            raise Drifted(f"{effect.subject} has {len(going)} pods to evict, above the approved {bound:.0f}")
        if seen.node.others < params.min_schedulable_nodes:
            raise Drifted(f"only {seen.node.others} other nodes take pods by now")
        _no_blocks(effect.subject, going)
        cordoned = await self._cordon(effect, params, True)
        return await self._empty(effect, params, cordoned)

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Uncordon it. The pods stay where they were put."""
        params = DrainParams.model_validate(effect.params)
        if not effect.undo:
            raise Refused(f"{effect.subject} was cordoned before; it is not ours to uncordon")
        if not await self._cordon(effect, params, False):
            return Result(f"{effect.subject} takes pods already", changed=False)
        return Result(f"uncordoned {effect.subject}")

    def progress(self, effect: Effect, seen: SeenNode) -> Progress:
        """Done where it is cordoned and empty. A node that is half empty is for a person to judge."""
        if seen.node is None or seen.node.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        if seen.node.cordoned and not seen.going:
            return Progress.DONE
        return Progress.UNCLEAR if seen.node.cordoned else Progress.UNTOUCHED

    def permissions(self, params: DrainParams) -> Permissions:
        """Listing nodes and pods, patching the node, and evicting in the namespaces that the connection names."""
        where = [""] if self._connection.drain_other_namespaces else sorted(self._connection.namespaces)
        evictions = [rule("", "pods/eviction", "create", namespace=namespace) for namespace in where]
        return Permissions(
            kubernetes=(*node_permissions(params.node).kubernetes, rule("", "pods", "list"), *evictions)
        )

    async def _pods(self, params: DrainParams) -> tuple[DrainedPod, ...]:
        found = await self._cluster.every(ALL_PODS, fields=f"spec.nodeName={params.node}")
        every = self._connection.drain_other_namespaces
        namespaces = None if every else frozenset(self._connection.namespaces)
        return tuple(classify(one, namespaces, params.lose_empty_dirs) for one in found)

    async def _cordon(self, effect: Effect, params: DrainParams, cordoned: bool) -> bool:
        return await set_cordon(self._cluster, self._connection, effect, params.node, cordoned)

    async def _empty(self, effect: Effect, params: DrainParams, cordoned: bool) -> Result:
        """Evict round by round. Pods that a budget holds are asked for again until the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + params.wait_seconds
        evicted = 0
        while True:
            going = tuple(pod for pod in await self._pods(params) if not pod.stays)
            if not going:
                return Result(
                    f"drained {effect.subject}: evicted {evicted} pods", evidence={"evicted": evicted}
                )
            more, held = await self._round(effect, going, evicted)
            evicted += more
            if loop.time() >= deadline:
                left = f"{len(going)} pods are left on {effect.subject} after {params.wait_seconds} s"
                if evicted == 0 and held:
                    if cordoned:
                        await self._cordon(effect, params, False)
                    raise TemporaryFailure(f"{left}, none could be evicted: {held}")
                raise OutcomeUnknown(f"{left}, {evicted} were evicted; {held or 'they do not end'}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _round(self, effect: Effect, going: tuple[DrainedPod, ...], before: int) -> tuple[int, str]:
        """Ask for every pod's eviction once: how many were, and what a budget said of the last that was not."""
        evicted, held = 0, ""
        try:
            # One of them may have come between the look and the cordon.
            _no_blocks(effect.subject, going)
        except Drifted as error:
            raise OutcomeUnknown(f"{error}; {before} were evicted") from error
        for pod in going:
            if pod.leaving:
                continue
            if before + evicted >= effect.at_most["pods"]:
                raise OutcomeUnknown(
                    f"{before + evicted} pods were evicted from {effect.subject}, and others came"
                )
            try:
                evicted += await evict(self._cluster, pod.namespace, pod.name, pod.uid)
            except Held as error:
                held = f"{pod.namespace}/{pod.name}: {error}"
        return evicted, held


def classify(pod: Object, namespaces: Container[str] | None, lose_empty_dirs: bool) -> DrainedPod:
    """What a drain makes of a pod. `namespaces` are those whose pods may be evicted; None means all."""
    meta, spec = pod["metadata"], pod["spec"]
    owner = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), None)
    stays, blocks = "", ""
    if owner is not None and owner["kind"] == "DaemonSet":
        stays = "belongs to a DaemonSet"
    elif "kubernetes.io/config.mirror" in (meta.get("annotations") or {}):
        stays = "is a static pod"
    elif (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        stays = "is over"
    elif owner is None:
        blocks = "has no owner that would replace it"
    elif namespaces is not None and meta["namespace"] not in namespaces:
        blocks = "is in a namespace that the connection does not allow"
    elif not lose_empty_dirs and any("emptyDir" in volume for volume in spec.get("volumes") or ()):
        blocks = "keeps data in an emptyDir"
    leaving = "deletionTimestamp" in meta
    return DrainedPod(meta["namespace"], meta["name"], meta["uid"], leaving, stays, "" if leaving else blocks)


def _no_blocks(subject: str, going: tuple[DrainedPod, ...]) -> None:
    blocked = [f"{pod.namespace}/{pod.name} {pod.blocks}" for pod in going if pod.blocks]
    if blocked:
        raise Drifted(f"{subject} cannot be drained: {'; '.join(blocked)}")
