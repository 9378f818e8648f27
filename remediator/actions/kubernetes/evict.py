"""kubernetes.evict_pod: let a stuck pod be replaced, by the Eviction API and never by deleting it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.kubernetes.cluster import Cluster, Conflict, Gone, Object
from remediator.actions.kubernetes.connection import (
    KubernetesAction,
    KubernetesConnection,
    Name,
    WorkloadName,
    allowed,
    rule,
)
from remediator.actions.kubernetes.workloads import RESOURCES, Workload, Workloads, label_selector, owned_by
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions

PODS = "/api/v1/namespaces/{namespace}/pods"
REPLICA_SETS = "/apis/apps/v1/namespaces/{namespace}/replicasets"
EVICTION = "/api/v1/namespaces/{namespace}/pods/{name}/eviction"


class EvictPodParams(BaseModel):
    """Parameters of `kubernetes.evict_pod`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    workload: WorkloadName = Field(description="whose pod it is, such as Deployment/api")
    pod: Name | None = Field(
        default=None, description="its name; without it the one that is not ready for the longest time"
    )
    not_ready_seconds: int = Field(default=600, ge=30, le=86_400, description="how long it must be stuck")
    min_ready: int = Field(default=1, ge=0, le=1000, description="how many other pods must be ready")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as it was seen. `unready_seconds` is 0 where it is ready."""

    name: str
    uid: str
    node: str
    owned: bool
    """Whether the workload controls it: only then is it replaced."""
    leaving: bool
    ready: bool
    unready_seconds: float
    state: str
    """Its phase, or what its container waits for."""


@dataclass(frozen=True, slots=True)
class SeenPods:
    """The workload, None where there is none, and the pods that its selector finds."""

    workload: Workload | None
    pods: tuple[Pod, ...]


class EvictPod(KubernetesAction):
    """Evict one stuck pod of a workload through the Eviction API, so that disruption budgets hold; never a deletion."""

    kind: ClassVar[str] = "kubernetes.evict_pod"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = EvictPodParams

    def __init__(self, connection: KubernetesConnection) -> None:
        super().__init__(connection)
        self._workloads = Workloads(self._cluster)

    async def observe(self, params: EvictPodParams) -> SeenPods:
        """Read the workload and its pods."""
        allowed(params.workload, "workload", self._connection.namespace(params.namespace).workloads)
        found = await self._workloads.find(params.namespace, params.workload)
        if found is None:
            return SeenPods(None, ())
        selector = label_selector(found.spec["selector"])
        owners = {found.uid}
        if found.kind == "Deployment":
            kept = await self._cluster.every(REPLICA_SETS, labels=selector, namespace=params.namespace)
            owners = {one["metadata"]["uid"] for one in kept if owned_by(one, found.uid)}
        pods = await self._cluster.every(PODS, labels=selector, namespace=params.namespace)
        now = datetime.now(UTC)
        return SeenPods(found, tuple(_pod(one, owners, now) for one in pods))

    def plan(self, params: EvictPodParams, seen: SeenPods) -> tuple[Effect, ...]:
        """One effect on exactly this pod."""
        found = seen.workload
        if found is None:
            raise NothingSelected(f"there is no {params.workload} in {params.namespace}")
        pod = _stuck(params, found, seen.pods)
        ready = _others_ready(pod.uid, seen.pods)
        if ready < params.min_ready:
            raise Refused(
                f"{found.subject}: {ready} other pods are ready, and {params.min_ready} are needed to evict {pod.name}"
            )
        return (
            Effect(
                action=self.kind,
                subject=f"pod {pod.name} in {params.namespace}",
                params=params.model_dump(mode="json"),
                summary=(
                    f"evict pod {pod.name} of {found.subject} from {pod.node} ({pod.state}, not ready for "
                    f"{pod.unready_seconds:.0f} s; {ready} others are ready)"
                ),
                before={"uid": found.uid, "pod": pod.name, "pod_uid": pod.uid},
                figures={"pods": 1, "others_ready": ready, "unready_seconds": pod.unready_seconds},
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Evict the pod of that uid, unless it is gone or going."""
        params = EvictPodParams.model_validate(effect.params)
        seen = await self.observe(params)
        name, uid = effect.before["pod"], effect.before["pod_uid"]
        if seen.workload is None or seen.workload.uid != effect.before["uid"]:
            raise Drifted(f"{params.workload} in {params.namespace} is not the one that was planned on")
        pod = next((one for one in seen.pods if one.uid == uid), None)
        if pod is None or pod.leaving:
            return Result(f"the pod {name} is gone already", changed=False)
        if pod.ready:
            raise Drifted(f"the pod {name} is ready by now")
        ready = _others_ready(uid, seen.pods)
        if ready < params.min_ready:
            raise Drifted(f"only {ready} other pods of {params.workload} are ready by now")
        if not await evict(self._cluster, params.namespace, name, uid):
            return Result(f"the pod {name} is gone already", changed=False)
        return Result(f"evicted the pod {name}", evidence={"pod": name, "state": pod.state, "node": pod.node})

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Nothing to take back: its workload makes another one."""
        raise Refused("an evicted pod does not come back; its workload makes another one")

    def progress(self, effect: Effect, seen: SeenPods) -> Progress:
        """Done where the pod of that uid is gone or going."""
        if seen.workload is None or seen.workload.uid != effect.before["uid"]:
            return Progress.UNCLEAR
        pod = next((one for one in seen.pods if one.uid == effect.before["pod_uid"]), None)
        return Progress.DONE if pod is None or pod.leaving else Progress.UNTOUCHED

    def permissions(self, params: EvictPodParams) -> Permissions:
        """Reading the workload and its pods, and evicting in its namespace: a pod's name is not known before."""
        kind, name = params.workload.split("/", 1)
        where = params.namespace
        rules = [
            rule("apps", RESOURCES[kind], "get", namespace=where, names=(name,)),
            rule("", "pods", "list", namespace=where),
            rule("", "pods/eviction", "create", namespace=where),
        ]
        if kind == "Deployment":
            rules.append(rule("apps", "replicasets", "list", namespace=where))
        return Permissions(kubernetes=tuple(rules))


async def evict(cluster: Cluster, namespace: str, name: str, uid: str) -> bool:
    """Evict exactly the pod of that uid; False where it is gone already.

    Raises:
        Held: where a disruption budget does not allow it now.
    """
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": uid}},
    }
    try:
        await cluster.create(EVICTION, body, namespace=namespace, name=name)
    except (Gone, Conflict):
        # Conflict: another pod has the name by now, as with a StatefulSet.
        return False
    return True


def _stuck(params: EvictPodParams, workload: Workload, pods: tuple[Pod, ...]) -> Pod:
    if params.pod is not None:
        named = next((pod for pod in pods if pod.name == params.pod), None)
        if named is None:
            raise NothingSelected(f"{workload.subject} selects no pod {params.pod}")
        if not named.owned:
            raise Refused(
                f"the pod {named.name} is not owned by {workload.subject}: nothing would replace it"
            )
        pods = (named,)
    stuck = [
        pod
        for pod in pods
        if pod.owned and not pod.leaving and pod.node and pod.unready_seconds >= params.not_ready_seconds
    ]
    if not stuck:
        raise NothingSelected(f"no pod of {workload.subject} is stuck for {params.not_ready_seconds} s")
    return max(stuck, key=lambda pod: (pod.unready_seconds, pod.name))


def _others_ready(uid: str, pods: tuple[Pod, ...]) -> int:
    return sum(1 for pod in pods if pod.owned and pod.ready and not pod.leaving and pod.uid != uid)


def _pod(object_: Object, owners: Collection[str], now: datetime) -> Pod:
    meta, status = object_["metadata"], object_.get("status") or {}
    condition = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), None)
    over = status.get("phase") in ("Succeeded", "Failed")
    ready = condition is not None and condition["status"] == "True"
    since = datetime.fromisoformat((condition or {}).get("lastTransitionTime") or meta["creationTimestamp"])
    waiting = [(c.get("state") or {}).get("waiting") for c in status.get("containerStatuses") or ()]
    reasons = [one["reason"] for one in waiting if one and one.get("reason")]
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        node=(object_.get("spec") or {}).get("nodeName", ""),
        owned=any(owned_by(object_, owner) for owner in owners),
        leaving="deletionTimestamp" in meta,
        ready=ready,
        # A pod that is over is not stuck.
        unready_seconds=0.0 if ready or over else max(0.0, (now - since).total_seconds()),
        state=reasons[0] if reasons else status.get("phase", "Unknown"),
    )
