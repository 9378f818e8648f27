"""kubernetes.cordon and kubernetes.uncordon: keep new pods off a node, or let them on again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.kubernetes.cluster import Cluster, Object
from remediator.actions.kubernetes.connection import KubernetesAction, KubernetesConnection, Name, rule
from remediator.actions.kubernetes.workloads import must_hold
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions

NODE = "/api/v1/nodes/{name}"
NODES = "/api/v1/nodes"


class CordonParams(BaseModel):
    """Parameters of `kubernetes.cordon`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    node: Name = Field(description="one of the connection's nodes")
    min_schedulable_nodes: int = Field(
        default=1, ge=1, le=1000, description="how many other nodes must be ready and take pods"
    )


class UncordonParams(BaseModel):
    """Parameters of `kubernetes.uncordon`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    node: Name = Field(description="one of the connection's nodes")


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was seen. `others` is how many other nodes are ready and take pods."""

    name: str
    uid: str
    cordoned: bool
    ready: bool
    others: int

    @property
    def subject(self) -> str:
        """As a person would say it."""
        return f"node {self.name}"


class _Nodes(KubernetesAction):
    """What cordon and uncordon share: one node, and whether it takes pods."""

    async def _seen(self, name: str) -> Node | None:
        every = await self._cluster.every(NODES)
        found = next((one for one in every if one["metadata"]["name"] == name), None)
        # A name outside the allow-list is refused before it is told whether there is such a node.
        self._connection.check_node(name, (found or {}).get("metadata", {}).get("labels") or {})
        return None if found is None else node(found, every)

    async def _set(self, effect: Effect, name: str, cordoned: bool) -> bool:
        return await set_cordon(self._cluster, self._connection, effect, name, cordoned)


class Cordon(_Nodes):
    """Mark a node so that no new pod is put on it; the pods that run there stay."""

    kind: ClassVar[str] = "kubernetes.cordon"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = CordonParams

    async def observe(self, params: CordonParams) -> Node | None:
        """Read the nodes."""
        return await self._seen(params.node)

    def plan(self, params: CordonParams, seen: Node | None) -> tuple[Effect, ...]:
        """One effect, if enough other nodes take pods."""
        if seen is None:
            raise NothingSelected(f"there is no node {params.node}")
        if seen.cordoned:
            raise NothingSelected(f"{seen.subject} is cordoned already")
        require_others(seen, params.min_schedulable_nodes)
        return (
            Effect(
                action=self.kind,
                subject=seen.subject,
                params=params.model_dump(mode="json"),
                summary=f"cordon {seen.subject}; {seen.others} other nodes take pods",
                before={"uid": seen.uid, "cordoned": False},
                after={"cordoned": True},
                figures={"nodes": 1, "others": seen.others},
                undo="uncordon it",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Cordon it, unless it is."""
        params = CordonParams.model_validate(effect.params)
        seen = await self._seen(params.node)
        if seen is not None and not seen.cordoned and seen.others < params.min_schedulable_nodes:
            raise Drifted(f"only {seen.others} other nodes take pods by now")
        if not await self._set(effect, params.node, True):
            return Result(f"{effect.subject} is cordoned already", changed=False)
        return Result(f"cordoned {effect.subject}")

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Uncordon it, unless somebody did."""
        params = CordonParams.model_validate(effect.params)
        if not await self._set(effect, params.node, False):
            return Result(f"{effect.subject} takes pods already", changed=False)
        return Result(f"uncordoned {effect.subject}")

    def progress(self, effect: Effect, seen: Node | None) -> Progress:
        """Done where it is cordoned."""
        if seen is None or seen.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        return Progress.DONE if seen.cordoned else Progress.UNTOUCHED

    def permissions(self, params: CordonParams) -> Permissions:
        """Listing the nodes, and patching the one."""
        return node_permissions(params.node)


class Uncordon(_Nodes):
    """Let new pods on a cordoned node again."""

    kind: ClassVar[str] = "kubernetes.uncordon"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = UncordonParams

    async def observe(self, params: UncordonParams) -> Node | None:
        """Read the nodes."""
        return await self._seen(params.node)

    def plan(self, params: UncordonParams, seen: Node | None) -> tuple[Effect, ...]:
        """One effect, if the node is ready."""
        if seen is None:
            raise NothingSelected(f"there is no node {params.node}")
        if not seen.cordoned:
            raise NothingSelected(f"{seen.subject} takes pods already")
        if not seen.ready:
            raise Refused(f"{seen.subject} is not ready: pods put there would not run")
        return (
            Effect(
                action=self.kind,
                subject=seen.subject,
                params=params.model_dump(mode="json"),
                summary=f"uncordon {seen.subject}",
                before={"uid": seen.uid, "cordoned": True},
                after={"cordoned": False},
                figures={"nodes": 1},
                undo="cordon it",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Uncordon it, unless it takes pods."""
        params = UncordonParams.model_validate(effect.params)
        seen = await self._seen(params.node)
        if seen is not None and seen.cordoned and not seen.ready:
            raise Drifted(f"{effect.subject} is not ready by now")
        if not await self._set(effect, params.node, False):
            return Result(f"{effect.subject} takes pods already", changed=False)
        return Result(f"uncordoned {effect.subject}")

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Cordon it again, unless somebody did."""
        params = UncordonParams.model_validate(effect.params)
        if not await self._set(effect, params.node, True):
            return Result(f"{effect.subject} is cordoned already", changed=False)
        return Result(f"cordoned {effect.subject} again")

    def progress(self, effect: Effect, seen: Node | None) -> Progress:
        """Done where it takes pods."""
        if seen is None or seen.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        return Progress.UNTOUCHED if seen.cordoned else Progress.DONE

    def permissions(self, params: UncordonParams) -> Permissions:
        """Listing the nodes, and patching the one."""
        return node_permissions(params.node)


async def set_cordon(
    cluster: Cluster, connection: KubernetesConnection, effect: Effect, name: str, cordoned: bool
) -> bool:
    """Cordon or uncordon exactly the node of the effect; False where it is so already."""

    def change(found: Object) -> Object | None:
        connection.check_node(name, found["metadata"].get("labels") or {})
        must_hold(effect.subject, {"uid": effect.before["uid"]}, {"uid": found["metadata"]["uid"]})
        if is_cordoned(found) == cordoned:
            return None
        return {"spec": {"unschedulable": True if cordoned else None}}

    return await cluster.change(NODE, change, name=name)


def node(found: Object, every: tuple[Object, ...]) -> Node:
    """What matters of a node among all."""
    name = found["metadata"]["name"]
    others = [one for one in every if one["metadata"]["name"] != name]
    takes = [one for one in others if _is_ready(one) and not is_cordoned(one)]
    return Node(name, found["metadata"]["uid"], is_cordoned(found), _is_ready(found), len(takes))


def is_cordoned(found: Object) -> bool:
    """Whether no new pod is put on it."""
    return bool((found.get("spec") or {}).get("unschedulable"))


def require_others(seen: Node, least: int) -> None:
    """Raise Refused where too few other nodes could take its pods."""
    if seen.others < least:
        raise Refused(f"{seen.others} other nodes take pods, and {least} are needed to spare {seen.subject}")


def node_permissions(name: str) -> Permissions:
    """Listing the nodes, and reading and patching the one."""
    return Permissions(kubernetes=(rule("", "nodes", "list"), rule("", "nodes", "get patch", names=(name,))))


def _is_ready(found: Object) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
