"""One use of every Kubernetes action, ready to be planned, applied, spoilt and undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remediator.actions.kubernetes.autoscaler import RaiseHpaCeiling
from remediator.actions.kubernetes.configkey import SetConfigKey
from remediator.actions.kubernetes.connection import KubernetesConnection, Namespace
from remediator.actions.kubernetes.cronjob import RunCronJob
from remediator.actions.kubernetes.drain import Drain
from remediator.actions.kubernetes.evict import EvictPod
from remediator.actions.kubernetes.nodes import Cordon, Uncordon
from remediator.actions.kubernetes.restart import RolloutRestart
from remediator.actions.kubernetes.rollback import RolloutUndo
from remediator.actions.kubernetes.scale import Scale
from remediator.actions.kubernetes.volume import GrowVolume
from tests.support.kubernetes import KubernetesCluster
from tests.support.kubernetes_objects import ONE, THREE, TWO, Objects
from tests.support.waiting import until

GIB = 2**30


@dataclass
class Case:
    """One use of an action, on objects of its own.

    Attributes:
        action: the class.
        objects: the namespace it is in.
        namespace: what the connection allows there.
        params: without connection.
        subject: the parameter that names what is acted on; hostile values are tried on it.
        look: what the action changes, as the administrator sees it.
        done: whether a look shows the effect, given the look before.
        spoil: change what was planned on.
        undone: whether a look shows that it was taken back, given the look before; None where nothing takes it back.
        nodes: nodes that the connection allows.
        gone: what is removed after the test, being of no namespace.
    """

    action: Any
    objects: Objects
    namespace: Mapping[str, Any]
    params: Mapping[str, Any]
    subject: str
    look: Callable[[], Any]
    done: Callable[[Any, Any], bool]
    spoil: Callable[[], None]
    undone: Callable[[Any, Any], bool] | None = None
    nodes: tuple[str, ...] = ()
    gone: tuple[str, ...] = field(default=())

    def connection(self, kubeconfig: Path, *, timeout_seconds: float = 10) -> KubernetesConnection:
        """The connection that allows just this use."""
        return KubernetesConnection(
            kind="kubernetes",
            kubeconfig_file=kubeconfig,
            namespaces={self.objects.namespace: Namespace.model_validate(self.namespace)},
            nodes=self.nodes,
            timeout_seconds=timeout_seconds,
        )

    def parameters(self, **others: Any) -> Any:
        """The validated parameters."""
        return self.action.Params.model_validate({"connection": "cluster", **self.params, **others})

    def clean(self) -> None:
        """Remove the namespace, and what is of none."""
        self.objects.clean()
        for path in self.gone:
            if self.objects.cluster.get(path):
                self.objects.cluster.call("DELETE", path)


def scale(cluster: KubernetesCluster) -> Case:
    """A Deployment from 2 to 4 replicas."""
    mine = Objects(cluster)
    mine.workload(replicas=2)
    return Case(
        Scale,
        mine,
        {"max_replicas": {"Deployment/api": 5}},
        {"namespace": mine.namespace, "workload": "Deployment/api", "step": 2, "max_replicas": 20},
        "workload",
        look=lambda: mine.see("apps/v1", "deployments", "api")["spec"]["replicas"],
        done=lambda before, after: (before, after) == (2, 4),
        spoil=lambda: mine.patch("apps/v1", "deployments", "api", {"spec": {"replicas": 3}}),
        undone=lambda before, after: before == after,
    )


def raise_hpa_ceiling(cluster: KubernetesCluster) -> Case:
    """An autoscaler's ceiling from 3 to 5."""
    mine = Objects(cluster)
    mine.autoscaler(most=3)
    return Case(
        RaiseHpaCeiling,
        mine,
        {"autoscalers": {"api": 20}},
        {"namespace": mine.namespace, "autoscaler": "api", "step": 2, "max_replicas": 20},
        "autoscaler",
        look=lambda: mine.see("autoscaling/v2", "horizontalpodautoscalers", "api")["spec"]["maxReplicas"],
        done=lambda before, after: (before, after) == (3, 5),
        spoil=lambda: mine.patch(
            "autoscaling/v2", "horizontalpodautoscalers", "api", {"spec": {"maxReplicas": 4}}
        ),
        undone=lambda before, after: before == after,
    )


def rollout_restart(cluster: KubernetesCluster) -> Case:
    """Two pods, replaced."""
    mine = Objects(cluster)
    mine.workload(replicas=2)

    def release() -> None:
        set_image(mine, TWO)
        until(mine.settled, within=60, what="the other release")

    return Case(
        RolloutRestart,
        mine,
        {"workloads": ["Deployment/api"]},
        {"namespace": mine.namespace, "workload": "Deployment/api", "wait_seconds": 60},
        "workload",
        look=mine.pod_uids,
        done=lambda before, after: len(after) == 2 and not set(before) & set(after),
        spoil=release,
    )


def rollout_undo(cluster: KubernetesCluster) -> Case:
    """From image TWO back to the verified ONE."""
    mine = Objects(cluster)
    mine.workload(replicas=2, image=ONE)
    mark_verified(mine)
    set_image(mine, TWO)
    until(mine.settled, within=60, what="the second release")
    return Case(
        RolloutUndo,
        mine,
        {"workloads": ["Deployment/api"]},
        {"namespace": mine.namespace, "workload": "Deployment/api", "wait_seconds": 60},
        "workload",
        look=lambda: image_of(mine),
        done=lambda before, after: (before, after) == (TWO, ONE),
        spoil=lambda: set_image(mine, THREE),
        undone=lambda before, after: before == after,
    )


def run_cronjob(cluster: KubernetesCluster) -> Case:
    """One job of a CronJob that has none."""
    mine = Objects(cluster)
    mine.cron_job()
    other = {"spec": {"jobTemplate": {"spec": {"backoffLimit": 3}}}}
    return Case(
        RunCronJob,
        mine,
        {"cron_jobs": ["export"]},
        {"namespace": mine.namespace, "cron_job": "export"},
        "cron_job",
        look=mine.jobs,
        done=lambda before, after: before == [] and len(after) == 1 and after[0].startswith("export-rerun-"),
        spoil=lambda: mine.patch("batch/v1", "cronjobs", "export", other),
        undone=lambda before, after: before == after,
    )


def evict_pod(cluster: KubernetesCluster) -> Case:
    """One of three pods, stuck since long ago."""
    mine = Objects(cluster)
    mine.workload(replicas=3)
    stuck = mine.pods()[1]
    mine.make_stuck(stuck)
    uid = stuck["metadata"]["uid"]
    return Case(
        EvictPod,
        mine,
        {"workloads": ["Deployment/api"]},
        {"namespace": mine.namespace, "workload": "Deployment/api"},
        "workload",
        look=mine.pod_uids,
        done=lambda before, after: set(before) - set(after) == {uid},
        spoil=lambda: mine.make_stuck(stuck, ready=True),
    )


def cordon(cluster: KubernetesCluster) -> Case:
    """A node that takes pods."""
    mine = Objects(cluster)
    name = f"node-{mine.namespace}"
    cluster.add_node(name, only_for=mine.namespace)
    return _node_case(Cordon, mine, name, cordoned=False)


def uncordon(cluster: KubernetesCluster) -> Case:
    """A node that takes none."""
    mine = Objects(cluster)
    name = f"node-{mine.namespace}"
    cluster.add_node(name, only_for=mine.namespace, cordoned=True)
    return _node_case(Uncordon, mine, name, cordoned=True)


def _node_case(action: Any, mine: Objects, name: str, *, cordoned: bool) -> Case:
    def replace() -> None:
        mine.cluster.remove_node(name)
        mine.cluster.add_node(name, only_for=mine.namespace, cordoned=cordoned)

    return Case(
        action,
        mine,
        {},
        {"node": name},
        "node",
        look=lambda: is_cordoned(mine, name),
        done=lambda before, after: (before, after) == (cordoned, not cordoned),
        spoil=replace,
        undone=lambda before, after: before == after,
        nodes=(name,),
        gone=(f"/api/v1/nodes/{name}",),
    )


def drain(cluster: KubernetesCluster) -> Case:
    """A node with the three pods of a Deployment that fits nowhere else."""
    mine = Objects(cluster)
    name = f"node-{mine.namespace}"
    cluster.add_node(name, only_for=mine.namespace)
    mine.workload(replicas=3, pod=only_on(mine.namespace))

    def crowd() -> None:
        mine.patch("apps/v1", "deployments", "api", {"spec": {"replicas": 12}})
        until(lambda: len(pods_on(mine, name)) == 12, within=60, what="more pods on the node")

    return Case(
        Drain,
        mine,
        {},
        {"node": name, "wait_seconds": 60},
        "node",
        look=lambda: (is_cordoned(mine, name), pods_on(mine, name)),
        done=lambda before, after: len(before[1]) == 3 and after == (True, []),
        spoil=crowd,
        undone=lambda before, after: after[0] is False,
        nodes=(name,),
        gone=(f"/api/v1/nodes/{name}",),
    )


def grow_volume(cluster: KubernetesCluster) -> Case:
    """A claim from 1 GiB to 2 GiB."""
    mine = Objects(cluster)
    class_ = mine.volume_claim()
    larger = {"spec": {"resources": {"requests": {"storage": "1280Mi"}}}}
    return Case(
        GrowVolume,
        mine,
        {"volume_claims_bytes": {"data": 4 * GIB}},
        {
            "namespace": mine.namespace,
            "claim": "data",
            "add_bytes": GIB,
            "max_bytes": 8 * GIB,
            "storage_class": class_,
        },
        "claim",
        look=lambda: mine.see("v1", "persistentvolumeclaims", "data")["spec"]["resources"]["requests"][
            "storage"
        ],
        done=lambda before, after: (before, after) == ("1Gi", "2Gi"),
        spoil=lambda: mine.patch("v1", "persistentvolumeclaims", "data", larger),
        gone=(
            f"/api/v1/persistentvolumes/{mine.namespace}-data",
            f"/apis/storage.k8s.io/v1/storageclasses/{class_}",
        ),
    )


def set_config_key(cluster: KubernetesCluster) -> Case:
    """LOG_LEVEL of a ConfigMap that has another key too."""
    mine = Objects(cluster)
    mine.make("v1", "configmaps", {"metadata": {"name": "app"}, "data": {"LOG_LEVEL": "info", "OTHER": "x"}})
    return Case(
        SetConfigKey,
        mine,
        {"config_maps": {"app": ["LOG_LEVEL"]}},
        {"namespace": mine.namespace, "config_map": "app", "key": "LOG_LEVEL", "value": "debug"},
        "config_map",
        look=lambda: mine.see("v1", "configmaps", "app")["data"],
        done=lambda before, after: after == {**before, "LOG_LEVEL": "debug"},
        spoil=lambda: mine.patch("v1", "configmaps", "app", {"data": {"LOG_LEVEL": "warn"}}),
        undone=lambda before, after: before == after,
    )


def only_on(home: str) -> dict[str, Any]:
    """What a pod says to be put on the nodes that are only for that home."""
    return {"nodeSelector": {"home": home}, "tolerations": [{"key": "home", "value": home}]}


MAKERS: dict[str, Callable[[KubernetesCluster], Case]] = {
    "kubernetes.scale": scale,
    "kubernetes.raise_hpa_ceiling": raise_hpa_ceiling,
    "kubernetes.rollout_restart": rollout_restart,
    "kubernetes.rollout_undo": rollout_undo,
    "kubernetes.run_cronjob": run_cronjob,
    "kubernetes.evict_pod": evict_pod,
    "kubernetes.cordon": cordon,
    "kubernetes.uncordon": uncordon,
    "kubernetes.drain": drain,
    "kubernetes.grow_volume": grow_volume,
    "kubernetes.set_config_key": set_config_key,
}


def mark_verified(mine: Objects, name: str = "api") -> None:
    """Have the newest ReplicaSet of a Deployment vouched for."""
    every = [one for one in mine.all("apps/v1", "replicasets") if one["metadata"]["labels"]["app"] == name]
    newest = max(
        every, key=lambda one: int(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
    )
    body = {"metadata": {"annotations": {"remediator/verified": "true"}}}
    mine.patch("apps/v1", "replicasets", newest["metadata"]["name"], body)


def image_of(mine: Objects, name: str = "api", resource: str = "deployments") -> str:
    """The image that a workload runs."""
    image: str = mine.see("apps/v1", resource, name)["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def is_cordoned(mine: Objects, node: str) -> bool:
    """Whether the node takes no pods."""
    return bool(mine.cluster.call("GET", f"/api/v1/nodes/{node}")["spec"].get("unschedulable"))


def pods_on(mine: Objects, node: str) -> list[str]:
    """The pods of this namespace on the node."""
    return [pod["metadata"]["name"] for pod in mine.all("v1", "pods") if pod["spec"].get("nodeName") == node]


def set_image(mine: Objects, image: str, name: str = "api", resource: str = "deployments") -> None:
    """Release another image."""
    container = {"name": "main", "image": image}
    body = {"spec": {"template": {"spec": {"containers": [container]}}}}
    mine.patch("apps/v1", resource, name, body)
