"""Which cluster, as whom, and what in it may be acted on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from remediator.actions.kubernetes.cluster import Cluster
from remediator.errors import Refused

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""The name of an object: no slash, no wildcard, no upper case."""

WorkloadName = Annotated[
    str,
    StringConstraints(pattern=r"^(Deployment|StatefulSet|DaemonSet)/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"),
]
"""A workload by kind and name, such as `Deployment/api`."""

ConfigKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]{1,253}$")]
"""A key of a ConfigMap."""

Replicas = Annotated[int, Field(ge=1, le=1000)]
Bytes = Annotated[int, Field(ge=1, le=2**50)]


class Namespace(BaseModel):
    """What may be acted on in one namespace. What is not named here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workloads: tuple[WorkloadName, ...] = Field(
        default=(), description="workloads that may be restarted, rolled back, or have a pod evicted"
    )
    max_replicas: Mapping[WorkloadName, Replicas] = Field(
        default={}, description="workloads that may be scaled, and the most replicas that is safe for each"
    )
    autoscalers: Mapping[Name, Replicas] = Field(
        default={}, description="HorizontalPodAutoscalers, and the highest safe ceiling of each"
    )
    cron_jobs: tuple[Name, ...] = Field(default=(), description="CronJobs that may be run at once")
    volume_claims_bytes: Mapping[Name, Bytes] = Field(
        default={}, description="volume claims that may grow, and the most bytes each may have"
    )
    config_maps: Mapping[Name, tuple[ConfigKey, ...]] = Field(
        default={}, description="ConfigMaps, and the keys of each that may be set"
    )


class KubernetesConnection(BaseModel):
    """One cluster, reached by a kubeconfig file or from a pod inside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["kubernetes"]
    kubeconfig_file: Path | None = Field(
        default=None, description="read again when the server refuses its token"
    )
    context: str | None = Field(default=None, description="of the kubeconfig; its current one where empty")
    in_cluster: bool = Field(default=False, description="use the service account of the pod we run in")
    namespaces: Mapping[Name, Namespace] = Field(default={}, description="what may be acted on, by namespace")
    nodes: tuple[Name, ...] = Field(default=(), description="nodes that may be cordoned and drained")
    node_labels: Mapping[str, str] = Field(
        default={}, description="or all nodes that carry every one of these labels, such as pool=workers"
    )
    drain_other_namespaces: bool = Field(
        default=False, description="whether a drain may evict pods of namespaces that are not named here"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="of one call")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.in_cluster == (self.kubeconfig_file is not None):
            raise ValueError("name either kubeconfig_file or in_cluster: true")
        if self.in_cluster and self.context:
            raise ValueError("context belongs to a kubeconfig_file")
        return self

    def namespace(self, name: str) -> Namespace:
        """What may be acted on there. Raises Refused where the connection does not name it."""
        allowed(name, "namespace", self.namespaces)
        return self.namespaces[name]

    def check_node(self, name: str, labels: Mapping[str, str]) -> None:
        """Raise Refused unless the node is listed, or carries all the labels that are asked for."""
        if name in self.nodes:
            return
        if self.node_labels and all(labels.get(key) == value for key, value in self.node_labels.items()):
            return
        raise Refused(f"the connection does not allow the node {name}")


def allowed(name: str, what: str, among: Collection[str]) -> None:
    """Raise Refused unless the name is one of those that the connection allows."""
    if name not in among:
        raise Refused(
            f"the connection does not allow the {what} {name} (it allows {', '.join(among) or 'none'})"
        )


class KubernetesAction:
    """What all of them share: the connection, and the client that is made of it."""

    Connection: ClassVar[type[BaseModel]] = KubernetesConnection

    def __init__(self, connection: KubernetesConnection) -> None:
        self._connection = connection
        self._cluster = Cluster(
            kubeconfig_file=connection.kubeconfig_file,
            context=connection.context,
            timeout_seconds=connection.timeout_seconds,
        )

    async def close(self) -> None:
        """Close the client."""
        await self._cluster.close()


def rule(
    group: str, resource: str, verbs: str, *, namespace: str = "", names: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    """One RBAC rule; `verbs` are parted by blanks, and without a namespace it is one of a ClusterRole."""
    told: dict[str, Any] = {"namespace": namespace, "apiGroups": [group], "resources": [resource]}
    if names:
        told["resourceNames"] = list(names)
    return {**told, "verbs": verbs.split()}
