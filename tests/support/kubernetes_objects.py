"""Objects that the Kubernetes tests act on, made in a namespace by the administrator, and looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.kubernetes import KubernetesCluster
from tests.support.waiting import until

ONE = "registry.test/app@sha256:" + "1" * 64
TWO = "registry.test/app@sha256:" + "2" * 64
THREE = "registry.test/app@sha256:" + "3" * 64
LONG_AGO = "2025-01-01T00:00:00Z"


class Objects:
    """What a test makes and sees in one namespace."""

    def __init__(self, cluster: KubernetesCluster, namespace: str | None = None) -> None:
        self.cluster = cluster
        self.namespace = namespace or cluster.namespace()

    def path(self, group: str, resource: str, name: str = "") -> str:
        """The path of an object, or of all, of this namespace."""
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    def workload(
        self,
        name: str = "api",
        *,
        kind: str = "Deployment",
        replicas: int = 2,
        image: str = ONE,
        meta: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
        pod: Mapping[str, Any] | None = None,
        ready: bool = True,
    ) -> None:
        """Make a Deployment, StatefulSet or DaemonSet, and wait until its pods are ready."""
        labels = {"app": name}
        container = {"name": "main", "image": image}
        template = {
            "metadata": {"labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **(pod or {})},
        }
        count = {} if kind == "DaemonSet" else {"replicas": replicas}
        body = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, **(meta or {})},
            "spec": {"selector": {"matchLabels": labels}, "template": template, **count, **(spec or {})},
        }
        self.cluster.call("POST", self.path("apps/v1", f"{kind.lower()}s"), body)
        if ready:
            until(lambda: self.ready_pods(name) >= replicas, within=60, what=f"the pods of {name}")
            until(lambda: self.settled(name, kind), within=60, what=f"the status of {name}")

    def settled(self, name: str = "api", kind: str = "Deployment") -> bool:
        """Whether its controller says that all is as wanted."""
        found = self.see("apps/v1", f"{kind.lower()}s", name)
        status, wanted = found.get("status") or {}, found["spec"].get("replicas")
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return False
        if kind == "DaemonSet":
            every = status["desiredNumberScheduled"]
            return bool(
                status.get("numberAvailable", 0) == status.get("updatedNumberScheduled", 0) == every > 0
            )
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
        return bool(counts == [wanted] * 3)

    def see(self, group: str, resource: str, name: str) -> Any:
        """The object; it must be there."""
        return self.cluster.call("GET", self.path(group, resource, name))

    def patch(self, group: str, resource: str, name: str, body: Any) -> None:
        """Change the object as somebody else would."""
        self.cluster.call("PATCH", self.path(group, resource, name), body)

    def make(self, group: str, resource: str, body: Mapping[str, Any]) -> Any:
        """Make an object."""
        return self.cluster.call("POST", self.path(group, resource), body)

    def all(self, group: str, resource: str) -> list[Any]:
        """All of them."""
        found: list[Any] = self.cluster.call("GET", self.path(group, resource))["items"]
        return found

    def clean(self) -> None:
        """Have the namespace deleted, without waiting for it."""
        self.cluster.call("DELETE", f"/api/v1/namespaces/{self.namespace}")

    # pods

    def pods(self, name: str = "api") -> list[Any]:
        """The pods of a workload that are not leaving, by name."""
        found = [pod for pod in self.all("v1", "pods") if pod["metadata"]["labels"].get("app") == name]
        staying = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return sorted(staying, key=lambda pod: pod["metadata"]["name"])

    def pod_uids(self, name: str = "api") -> list[str]:
        """Which pods these are."""
        return sorted(pod["metadata"]["uid"] for pod in self.pods(name))

    def ready_pods(self, name: str = "api") -> int:
        """How many of them are ready."""
        return sum(1 for pod in self.pods(name) if _is_ready(pod))

    def make_stuck(self, pod: Any, *, ready: bool = False) -> None:
        """Have a pod say that it is not ready since long ago, or that it is ready again."""
        conditions = [
            one for one in pod["status"]["conditions"] if one["type"] not in ("Ready", "ContainersReady")
        ]
        told = {"status": "True" if ready else "False", "lastTransitionTime": LONG_AGO}
        conditions += [{"type": kind, **told} for kind in ("Ready", "ContainersReady")]
        name = pod["metadata"]["name"]
        self.cluster.call(
            "PATCH", self.path("v1", "pods", name) + "/status", {"status": {"conditions": conditions}}
        )

    # the rest

    def budget(self, name: str = "api", *, min_available: int) -> None:
        """Make a PodDisruptionBudget and wait until its controller has counted."""
        spec = {"minAvailable": min_available, "selector": {"matchLabels": {"app": name}}}
        self.make("policy/v1", "poddisruptionbudgets", {"metadata": {"name": name}, "spec": spec})
        until(
            lambda: (self.see("policy/v1", "poddisruptionbudgets", name).get("status") or {}).get(
                "expectedPods"
            ),
            within=30,
            what="the budget's count",
        )

    def autoscaler(self, name: str = "api", *, most: int, target: str = "api", **meta: Any) -> None:
        """Make a HorizontalPodAutoscaler."""
        metric = {"type": "Utilization", "averageUtilization": 70}
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": 1,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": metric}}],
        }
        self.make(
            "autoscaling/v2", "horizontalpodautoscalers", {"metadata": {"name": name, **meta}, "spec": spec}
        )

    def cron_job(self, name: str = "export", *, suspend: bool = False) -> None:
        """Make a CronJob that is not due for months."""
        container = {"name": "main", "image": ONE}
        pod = {"spec": {"containers": [container], "restartPolicy": "Never"}}
        spec = {
            "schedule": "0 0 29 2 *",
            "suspend": suspend,
            "jobTemplate": {"spec": {"template": pod, "backoffLimit": 0}},
        }
        self.make("batch/v1", "cronjobs", {"metadata": {"name": name}, "spec": spec})

    def jobs(self) -> list[str]:
        """The names of the jobs that are not leaving."""
        found = self.all("batch/v1", "jobs")
        return sorted(one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"])

    def storage_class(self, *, expandable: bool) -> str:
        """Make a storage class and return its name."""
        name = f"{self.namespace}-{'grows' if expandable else 'fixed'}"
        body = {
            "metadata": {"name": name},
            "provisioner": "kubernetes.io/no-provisioner",
            "allowVolumeExpansion": expandable,
        }
        self.cluster.call("POST", "/apis/storage.k8s.io/v1/storageclasses", body)
        return name

    def volume_claim(self, name: str = "data", *, size: str = "1Gi", expandable: bool = True) -> str:
        """Make a volume with a claim bound to it, and return the storage class."""
        class_ = self.storage_class(expandable=expandable)
        common = {"storageClassName": class_, "accessModes": ["ReadWriteOnce"]}
        volume = {**common, "capacity": {"storage": size}, "hostPath": {"path": "/nowhere"}}
        body = {"metadata": {"name": f"{self.namespace}-{name}"}, "spec": volume}
        self.cluster.call("POST", "/api/v1/persistentvolumes", body)
        claim = {**common, "resources": {"requests": {"storage": size}}}
        self.make("v1", "persistentvolumeclaims", {"metadata": {"name": name}, "spec": claim})
        until(
            lambda: self.see("v1", "persistentvolumeclaims", name)["status"].get("phase") == "Bound",
            within=30,
            what=f"the volume of {name}",
        )
        return class_


def _is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
