"""The revisions that a workload keeps of its pod template, read from ReplicaSets or ControllerRevisions. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from remediator.actions.kubernetes.cluster import Object
from remediator.actions.kubernetes.workloads import Workload, owned_by, template_digest

SOURCES = {
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/replicasets",
    "StatefulSet": "/apis/apps/v1/namespaces/{namespace}/controllerrevisions",
    "DaemonSet": "/apis/apps/v1/namespaces/{namespace}/controllerrevisions",
}
"""Where the revisions of each kind of workload are kept."""

_NUMBER = "deployment.kubernetes.io/revision"


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision. `template` is its pod template, never put into a plan; `digest` is the template's."""

    number: int
    uid: str
    digest: str
    images: tuple[str, ...]
    annotations: tuple[tuple[str, str], ...]
    template: Object = field(repr=False)

    def is_verified(self, annotation: str) -> bool:
        """Whether somebody vouched for it with that annotation."""
        return (annotation, "true") in self.annotations

    @property
    def pinned(self) -> bool:
        """Whether all its images are named by digest, so that they are what they were."""
        return all("@sha256:" in image for image in self.images)


def revisions(workload: Workload, kept: Iterable[Object]) -> tuple[Revision, ...]:
    """Its revisions, the newest first."""
    found = [_read(workload.kind, one) for one in kept if owned_by(one, workload.uid)]
    return tuple(sorted(found, key=lambda revision: -revision.number))


def _read(kind: str, object_: Object) -> Revision:
    meta = object_["metadata"]
    annotations = meta.get("annotations") or {}
    if kind == "Deployment":
        number, template = int(annotations.get(_NUMBER, 0)), object_["spec"]["template"]
    else:
        number, template = object_["revision"], object_["data"]["spec"]["template"]
    plain: dict[str, Any] = copy.deepcopy(dict(template))
    plain.pop("$patch", None)
    labels = (plain.get("metadata") or {}).get("labels") or {}
    labels.pop("pod-template-hash", None)
    containers = [*(plain["spec"].get("initContainers") or ()), *plain["spec"]["containers"]]
    return Revision(
        number=number,
        uid=meta["uid"],
        digest=template_digest(plain),
        images=tuple(container.get("image", "") for container in containers),
        annotations=tuple(annotations.items()),
        template=plain,
    )
