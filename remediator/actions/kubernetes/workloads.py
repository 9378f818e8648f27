"""Deployments, StatefulSets and DaemonSets: where they live, what runs in them, how a rollout stands. Pure but `Workloads`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from remediator.actions.kubernetes.cluster import Cluster, Object
from remediator.errors import Drifted, NothingSelected, OutcomeUnknown

RESOURCES = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far the controller is: pods wanted, made from the newest template, and ready."""

    wanted: int
    updated: int
    ready: int
    done: bool

    def __str__(self) -> str:
        return f"{self.updated} of {self.wanted} updated, {self.ready} ready"


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload as it was seen. `object` is what the server told and is never put into a plan."""

    kind: str
    namespace: str
    name: str
    uid: str
    replicas: int
    template: str
    """The digest of its pod template."""
    rollout: Rollout
    object: Object = field(repr=False)

    @property
    def subject(self) -> str:
        """As a person would say it."""
        return f"{self.kind}/{self.name} in {self.namespace}"

    @property
    def spec(self) -> Object:
        """Its specification."""
        spec: Object = self.object["spec"]
        return spec


def path(kind: str) -> str:
    """The path of one workload of that kind."""
    return f"/apis/apps/v1/namespaces/{{namespace}}/{RESOURCES[kind]}/{{name}}"


def read(kind: str, object_: Object) -> Workload:
    """A workload from what the server told."""
    meta, spec, status = object_["metadata"], object_["spec"], object_.get("status") or {}
    return Workload(
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        replicas=status.get("desiredNumberScheduled", 0) if kind == "DaemonSet" else spec.get("replicas", 1),
        template=template_digest(spec["template"]),
        rollout=rollout(kind, object_),
        object=object_,
    )


def template_digest(template: Object) -> str:
    """SHA-256 of a pod template, without what controllers add to their copies of it."""
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if k != "creationTimestamp"}
    labels = {k: v for k, v in (meta.pop("labels", None) or {}).items() if k != "pod-template-hash"}
    plain = {"metadata": {**meta, "labels": labels}, "spec": template.get("spec") or {}}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def rollout(kind: str, object_: Object) -> Rollout:
    """Read a rollout from a workload's status, as `kubectl rollout status` does."""
    status: Mapping[str, Any] = object_.get("status") or {}
    caught_up = status.get("observedGeneration", 0) >= object_["metadata"].get("generation", 0)
    if kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, ready = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
        return Rollout(wanted, updated, ready, caught_up and updated >= wanted and ready >= wanted)
    wanted, updated = object_["spec"].get("replicas", 1), status.get("updatedReplicas", 0)
    if kind == "StatefulSet":
        ready = status.get("readyReplicas", 0)
        same = status.get("currentRevision") == status.get("updateRevision")
        return Rollout(wanted, updated, ready, caught_up and same and ready >= wanted)
    ready = status.get("availableReplicas", 0)
    old_gone = status.get("replicas", 0) <= updated
    return Rollout(wanted, updated, ready, caught_up and old_gone and updated >= wanted and ready >= wanted)


def takes_down(workload: Workload) -> str:
    """Why replacing its pods interrupts the service, else empty."""
    spec = workload.spec
    if workload.kind == "Deployment":
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return "its strategy is Recreate: all pods stop before new ones start"
        surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
        if workload.replicas < 2 and surge in (0, "0", "0%"):
            return "its only pod stops before the new one starts (maxSurge is 0)"
    if workload.kind == "StatefulSet" and workload.replicas < 2:
        return "its only pod stops before the new one starts"
    return ""


def cannot_roll(workload: Workload) -> str:
    """Why a new template would not reach its pods, else empty."""
    if workload.spec.get("paused"):
        return "its rollouts are paused"
    strategy: Mapping[str, Any] = workload.spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "its update strategy is OnDelete"
    if ((strategy.get("rollingUpdate") or {}).get("partition") or 0) > 0:
        return "its rolling update is partitioned"
    return ""


def label_selector(selector: Object) -> str:
    """A LabelSelector as the text that the API takes.

    Raises:
        NothingSelected: for an empty one, which the API would read as everything.
    """
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        key, operator = term["key"], term["operator"]
        values = ",".join(term.get("values") or ())
        parts.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(
                operator, f"!{key}"
            )
        )
    if not parts:
        raise NothingSelected("the workload selects no pods by label")
    return ",".join(parts)


def owned_by(object_: Object, uid: str) -> bool:
    """Whether the object with that uid controls this one."""
    owners = object_["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)


def must_hold(subject: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise Drifted where what is found is not what was planned on."""
    told = [f"{k} was {v!r} and is {found.get(k)!r}" for k, v in expected.items() if found.get(k) != v]
    if told:
        raise Drifted(f"{subject}: {'; '.join(told)}")


class Workloads:
    """Looks at workloads and changes them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def find(self, namespace: str, workload: str) -> Workload | None:
        """The workload of that `Kind/name`, or None."""
        kind, name = workload.split("/", 1)
        object_ = await self._cluster.get(path(kind), namespace=namespace, name=name)
        return None if object_ is None else read(kind, object_)

    async def change(
        self,
        namespace: str,
        workload: str,
        change: Callable[[Workload], Object | None],
        *,
        how: str,
        part: str = "",
    ) -> bool:
        """Compare and set, as `Cluster.change`."""
        kind, name = workload.split("/", 1)
        return await self._cluster.change(
            path(kind),
            lambda found: change(read(kind, found)),
            how=how,
            part=part,
            namespace=namespace,
            name=name,
        )

    async def rolled_out(
        self, namespace: str, workload: str, template: str, within_seconds: float
    ) -> Rollout:
        """Wait until every pod is made of that template and ready.

        Raises:
            OutcomeUnknown: when that takes longer, or the template is changed meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        while True:
            found = await self.find(namespace, workload)
            if found is None:
                raise OutcomeUnknown(f"{workload} in {namespace} was deleted during its rollout")
            if found.template != template:
                raise OutcomeUnknown(
                    f"{found.subject}: somebody else changed its template during the rollout"
                )
            if found.rollout.done:
                return found.rollout
            if loop.time() >= deadline:
                raise OutcomeUnknown(
                    f"{found.subject} is not rolled out after {within_seconds:g} s: {found.rollout}"
                )
            await asyncio.sleep(_POLL_SECONDS)
