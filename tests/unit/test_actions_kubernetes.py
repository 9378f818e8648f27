"""The pure parts of the Kubernetes actions: what they may act on, what they plan, and what a second look tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from remediator.actions.kubernetes import gitops
from remediator.actions.kubernetes.autoscaler import RaiseHpaCeilingParams
from remediator.actions.kubernetes.configkey import SetConfigKeyParams
from remediator.actions.kubernetes.connection import KubernetesConnection, Namespace
from remediator.actions.kubernetes.drain import DrainParams, classify
from remediator.actions.kubernetes.evict import EvictPod, EvictPodParams, Pod, SeenPods
from remediator.actions.kubernetes.nodes import CordonParams, UncordonParams
from remediator.actions.kubernetes.restart import RolloutRestartParams
from remediator.actions.kubernetes.rollback import RolloutUndoParams
from remediator.actions.kubernetes.scale import Scale, ScaleParams, SeenScale
from remediator.actions.kubernetes.volume import GrowVolumeParams, quantity, quantity_bytes
from remediator.actions.kubernetes.workloads import (
    Workload,
    cannot_roll,
    label_selector,
    read,
    rollout,
    takes_down,
    template_digest,
)
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, PermanentFailure, Refused

CONNECTION = KubernetesConnection(
    kind="kubernetes",
    kubeconfig_file=Path("/nowhere"),
    namespaces={"shop": Namespace(workloads=("Deployment/api",), max_replicas={"Deployment/api": 20})},
)


def deployment(replicas: int = 3, *, kind: str = "Deployment", **spec: Any) -> Workload:
    """A workload whose pods are all ready."""
    template = {
        "metadata": {"labels": {"app": "api"}},
        "spec": {"containers": [{"name": "main", "image": "a"}]},
    }
    status = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas}
    object_ = {
        "metadata": {"namespace": "shop", "name": "api", "uid": "u1", "generation": 1},
        "spec": {"replicas": replicas, "template": template, **spec},
        "status": {**status, "availableReplicas": replicas, "readyReplicas": replicas},
    }
    return read(kind, object_)


def scale_params(**others: Any) -> ScaleParams:
    """Parameters for Deployment/api, at most 25."""
    valid = {"connection": "c", "namespace": "shop", "workload": "Deployment/api", "max_replicas": 25}
    return ScaleParams.model_validate({**valid, **others})


@pytest.mark.parametrize(
    ("params", "now", "expected"),
    [
        pytest.param({"step": 2}, 3, 5, id="a-step-up"),
        pytest.param({"step": -2}, 3, 1, id="a-step-down"),
        pytest.param({"step": 6}, 18, 20, id="ends-at-the-connection's-maximum"),
        pytest.param({"step": 6, "max_replicas": 19}, 18, 19, id="ends-at-the-rule's-maximum"),
        pytest.param({"step": -9, "min_replicas": 2}, 3, 2, id="ends-at-the-minimum"),
        pytest.param({"replicas": 7}, 3, 7, id="a-number"),
        pytest.param({"step": -1}, 23, 20, id="comes-down-to-the-maximum"),
    ],
)
def test_scale_plans_within_both_maxima(params: dict[str, int], now: int, expected: int) -> None:
    """The wanted replicas lie within the minimum and the lower of both maxima."""
    (effect,) = Scale(CONNECTION).plan(scale_params(**params), SeenScale(deployment(now), (), 20))

    assert effect.before == {"uid": "u1", "replicas": now}
    assert effect.after == {"replicas": expected}
    assert effect.undo == f"scale it back to {now}"


@pytest.mark.parametrize(
    ("params", "now", "error", "reason"),
    [
        pytest.param({"step": 1}, 20, Refused, "20 is the most that is safe", id="at-the-maximum"),
        pytest.param({"replicas": 21}, 3, Refused, r"outside 1\.\.20", id="above-the-maximum"),
        pytest.param({"step": -1}, 1, Refused, "1 is the least", id="at-the-minimum"),
        pytest.param({"replicas": 3}, 3, NothingSelected, "already", id="nothing-to-do"),
        pytest.param({"step": 2}, 0, Refused, "somebody stopped it", id="stopped"),
    ],
)
def test_scale_refuses(params: dict[str, int], now: int, error: type[ActionError], reason: str) -> None:
    """What is outside the bounds, or no change, is not planned."""
    with pytest.raises(error, match=reason):
        Scale(CONNECTION).plan(scale_params(**params), SeenScale(deployment(now), (), 20))


@pytest.mark.parametrize(
    ("now", "expected"),
    [(5, Progress.DONE), (3, Progress.UNTOUCHED), (4, Progress.UNCLEAR), (None, Progress.UNCLEAR)],
)
def test_scale_progress(now: int | None, expected: Progress) -> None:
    """Done at the wanted number, untouched at the old one, unclear at any other."""
    action = Scale(CONNECTION)
    (effect,) = action.plan(scale_params(step=2), SeenScale(deployment(3), (), 20))
    found = None if now is None else deployment(now)

    assert action.progress(effect, SeenScale(found, (), 20)) is expected


NAMED: list[tuple[type[BaseModel], str, dict[str, Any]]] = [
    (ScaleParams, "workload", {"step": 1, "max_replicas": 5}),
    (RaiseHpaCeilingParams, "autoscaler", {"step": 1, "max_replicas": 5}),
    (RolloutRestartParams, "workload", {}),
    (RolloutUndoParams, "workload", {}),
    (EvictPodParams, "workload", {}),
    (SetConfigKeyParams, "config_map", {"key": "A", "value": "b"}),
    (GrowVolumeParams, "claim", {"add_bytes": 1, "max_bytes": 5, "storage_class": "fast"}),
    (CordonParams, "node", {}),
    (UncordonParams, "node", {}),
    (DrainParams, "node", {}),
]


@pytest.mark.parametrize(("model", "field", "others"), NAMED, ids=[model.__name__ for model, _, _ in NAMED])
@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a;b", "a b", "a\n", "*", "", "-a", "A", "a" * 254, "%2e%2e"]
)
def test_names_are_names(model: type[BaseModel], field: str, others: dict[str, Any], name: str) -> None:
    """Nothing that could be a path, a pattern or a second word is taken as a name."""
    prefix = "Deployment/" if field == "workload" else ""
    where = {"namespace": "shop"} if "namespace" in model.model_fields else {}
    good = {"connection": "c", **where, field: f"{prefix}api", **others}

    model.model_validate(good)
    with pytest.raises(ValidationError, match=field):
        model.model_validate({**good, field: prefix + name})


@pytest.mark.parametrize(
    ("model", "params"),
    [
        pytest.param(ScaleParams, {"max_replicas": 5}, id="scale-without-a-wish"),
        pytest.param(ScaleParams, {"step": 0, "max_replicas": 5}, id="scale-by-nothing"),
        pytest.param(ScaleParams, {"step": 1, "replicas": 2, "max_replicas": 5}, id="scale-with-two-wishes"),
        pytest.param(ScaleParams, {"replicas": 0, "max_replicas": 5}, id="scale-to-none"),
        pytest.param(ScaleParams, {"step": 1}, id="scale-without-a-maximum"),
        pytest.param(ScaleParams, {"step": 1, "max_replicas": 5, "force": True}, id="an-unknown-parameter"),
    ],
)
def test_a_wish_is_one_and_bounded(model: type[BaseModel], params: dict[str, Any]) -> None:
    """Either a number or a step, with a maximum, and nothing else."""
    good = {"connection": "c", "namespace": "shop", "workload": "Deployment/api"}

    with pytest.raises(ValidationError):
        model.model_validate({**good, **params})


@pytest.mark.parametrize("key", ["DB_PASSWORD", "api-token", "client_secret", "apiKey", "PRIVATE_KEY"])
def test_secrets_are_no_settings(key: str) -> None:
    """A key that is named like a secret is refused: plans and journals show its value."""
    with pytest.raises(ValidationError, match="belongs in a Secret"):
        SetConfigKeyParams(connection="c", namespace="shop", config_map="app", key=key, value="x")


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param({}, id="none"),
        pytest.param({"kubeconfig_file": "/k", "in_cluster": True}, id="two"),
        pytest.param({"in_cluster": True, "context": "prod"}, id="a-context-of-no-file"),
    ],
)
def test_a_connection_has_one_way_in(ways: dict[str, Any]) -> None:
    """A kubeconfig or the pod's own account, not both and not neither."""
    with pytest.raises(ValidationError):
        KubernetesConnection.model_validate({"kind": "kubernetes", **ways})


def test_nodes_are_allowed_by_name_or_by_all_labels() -> None:
    """A node that carries only some of the labels is refused, and without labels to ask for all are."""
    by_label = CONNECTION.model_copy(update={"node_labels": {"pool": "web", "zone": "a"}})

    by_label.check_node("n1", {"pool": "web", "zone": "a", "more": "x"})
    CONNECTION.model_copy(update={"nodes": ("n1",)}).check_node("n1", {})
    for connection, labels in ((by_label, {"pool": "web"}), (CONNECTION, {})):
        with pytest.raises(Refused, match="does not allow the node n1"):
            connection.check_node("n1", labels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10Gi", 10 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("1e9", 10**9),
        ("500M", 5 * 10**8),
        ("12345", 12345),
        ("1500m", 2),
        ("1E", 10**18),
        ("2Ei", 2**61),
    ],
)
def test_quantities(text: str, expected: int) -> None:
    """Kubernetes quantities in bytes, rounded up."""
    assert quantity_bytes(text) == expected


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(2 * 2**30, "2Gi"), (1280 * 2**20, "1280Mi"), (2**60, "1Ei"), (1000, "1000")]
)
def test_quantities_are_written_as_they_are_read(size_bytes: int, expected: str) -> None:
    """Bytes are written in the largest unit that is exact, and read back as the same."""
    assert quantity(size_bytes) == expected
    assert quantity_bytes(quantity(size_bytes)) == size_bytes


@pytest.mark.parametrize("text", ["", "ten", "1GB", "-1Gi", "1 Gi", "1e", "0x10"])
def test_what_is_no_quantity(text: str) -> None:
    """Anything else is said to be none."""
    with pytest.raises(PermanentFailure):
        quantity_bytes(text)


def test_a_selector_is_written_out() -> None:
    """All terms of a label selector are kept, and an empty one is refused: it would select everything."""
    terms = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "own", "operator": "Exists"},
        {"key": "x", "operator": "NotIn", "values": ["y"]},
    ]

    text = label_selector({"matchLabels": {"app": "api"}, "matchExpressions": terms})

    assert text == "app=api,tier in (a,b),!old,own,x notin (y)"
    with pytest.raises(NothingSelected):
        label_selector({})


def test_a_template_is_known_without_its_hash() -> None:
    """A ReplicaSet's copy of a template has the same digest, and any real difference another one."""
    mine = {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"image": "a"}]}}
    copy = {
        "metadata": {"creationTimestamp": None, "labels": {"app": "api", "pod-template-hash": "abc"}},
        "spec": {"containers": [{"image": "a"}]},
    }
    other = {**mine, "spec": {"containers": [{"image": "b"}]}}

    assert template_digest(mine) == template_digest(copy)
    assert template_digest(mine) != template_digest(other)


@pytest.mark.parametrize(
    ("status", "done"),
    [
        pytest.param({}, True, id="all-new-and-ready"),
        pytest.param({"observedGeneration": 0}, False, id="not-looked-at-yet"),
        pytest.param({"updatedReplicas": 2}, False, id="one-old"),
        pytest.param({"availableReplicas": 2}, False, id="one-not-ready"),
        pytest.param({"replicas": 4}, False, id="an-old-one-not-gone"),
    ],
)
def test_a_rollout_is_done_when_all_of_it_is(status: dict[str, int], done: bool) -> None:
    """As kubectl rollout status judges a Deployment."""
    seen = deployment(3).object

    assert rollout("Deployment", {**seen, "status": {**seen["status"], **status}}).done is done


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        pytest.param(deployment(3), "", id="rolling"),
        pytest.param(deployment(1), "", id="one-pod-with-surge"),
        pytest.param(deployment(3, strategy={"type": "Recreate"}), "Recreate", id="recreate"),
        pytest.param(deployment(1, strategy={"rollingUpdate": {"maxSurge": 0}}), "only pod", id="no-surge"),
        pytest.param(deployment(1, kind="StatefulSet"), "only pod", id="a-stateful-set-of-one"),
        pytest.param(deployment(2, kind="StatefulSet"), "", id="a-stateful-set-of-two"),
    ],
)
def test_downtime_is_foreseen(workload: Workload, reason: str) -> None:
    """A rollout that stops the last pod first is told from one that does not."""
    assert reason in takes_down(workload)
    assert bool(reason) == bool(takes_down(workload))


@pytest.mark.parametrize(
    "spec",
    [
        {"paused": True},
        {"updateStrategy": {"type": "OnDelete"}},
        {"updateStrategy": {"rollingUpdate": {"partition": 2}}},
    ],
    ids=["paused", "on-delete", "partitioned"],
)
def test_what_cannot_roll(spec: dict[str, Any]) -> None:
    """A rollout that would not reach the pods is foreseen."""
    assert cannot_roll(deployment(3, **spec))
    assert not cannot_roll(deployment(3))


def _object(**meta: Any) -> dict[str, Any]:
    return {"metadata": meta}


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        pytest.param({}, "", id="nobody"),
        pytest.param({"labels": {"app.kubernetes.io/instance": "x"}}, "", id="helm-uses-this-label-too"),
        pytest.param({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD", id="argo-cd"),
        pytest.param({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, "Flux", id="flux-kustomize"),
        pytest.param({"labels": {"helm.toolkit.fluxcd.io/name": "x"}}, "Flux", id="flux-helm"),
        pytest.param({"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD", id="by-its-manager"),
        pytest.param(
            {
                "labels": {"kustomize.toolkit.fluxcd.io/name": "x"},
                "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
            },
            "",
            id="flux-told-to-leave-it",
        ),
    ],
)
def test_who_would_revert(meta: dict[str, Any], expected: str) -> None:
    """Argo CD and Flux are known by the marks they leave; without a record of fields they own them all."""
    assert gitops.reverts(_object(**meta), "spec", "replicas") == expected


@pytest.mark.parametrize(
    ("applied", "expected"),
    [('{"spec": {"replicas": 3}}', "Argo CD"), ('{"spec": {"paused": false}}', ""), ("not json", "Argo CD")],
    ids=["sets-it", "leaves-it", "unreadable"],
)
def test_a_field_that_git_leaves_alone_may_be_set(applied: str, expected: str) -> None:
    """What the last applied configuration does not name is not put back."""
    annotations = {
        "argocd.argoproj.io/tracking-id": "x",
        "kubectl.kubernetes.io/last-applied-configuration": applied,
    }

    assert gitops.reverts(_object(annotations=annotations), "spec", "replicas") == expected


def _pod(name: str, *, unready: float = 0, owned: bool = True, leaving: bool = False, node: str = "n") -> Pod:
    return Pod(name, f"uid-{name}", node, owned, leaving, unready == 0, unready, "Running")


def evict_params(**others: Any) -> EvictPodParams:
    """Parameters for Deployment/api."""
    valid = {"connection": "c", "namespace": "shop", "workload": "Deployment/api"}
    return EvictPodParams.model_validate({**valid, **others})


def test_the_pod_that_is_stuck_for_the_longest_time_is_chosen() -> None:
    """Among those that are owned, on a node, and not leaving already."""
    pods = (
        _pod("a"),
        _pod("b", unready=700),
        _pod("c", unready=900),
        _pod("leaving", unready=5000, leaving=True),
        _pod("loose", unready=5000, owned=False),
        _pod("nowhere", unready=5000, node=""),
    )

    (effect,) = EvictPod(CONNECTION).plan(evict_params(), SeenPods(deployment(), pods))

    assert effect.before == {"uid": "u1", "pod": "c", "pod_uid": "uid-c"}
    assert effect.figures == {"pods": 1, "others_ready": 1, "unready_seconds": 900}


@pytest.mark.parametrize(
    ("params", "pods", "reason"),
    [
        pytest.param({}, (_pod("a"), _pod("b", unready=599)), "is stuck for 600 s", id="not-for-long-enough"),
        pytest.param({"pod": "x"}, (_pod("a"),), "selects no pod x", id="no-such-pod"),
        pytest.param({"pod": "a"}, (_pod("a", unready=900, owned=False),), "is not owned", id="unowned"),
        pytest.param({}, (_pod("a", unready=900),), "0 other pods are ready, and 1 are", id="none-ready"),
    ],
)
def test_no_pod_is_chosen(params: dict[str, Any], pods: tuple[Pod, ...], reason: str) -> None:
    """Nothing is planned where no pod is stuck, nothing would replace it, or too few others are ready."""
    with pytest.raises((Refused, NothingSelected), match=reason):
        EvictPod(CONNECTION).plan(evict_params(**params), SeenPods(deployment(), pods))


@pytest.mark.parametrize(
    ("pod", "stays", "blocks"),
    [
        pytest.param({"owner": "ReplicaSet"}, "", "", id="goes"),
        pytest.param({"owner": "DaemonSet"}, "belongs to a DaemonSet", "", id="daemon-set"),
        pytest.param({"owner": "Node", "mirror": True}, "is a static pod", "", id="static"),
        pytest.param({"owner": "Job", "phase": "Succeeded"}, "is over", "", id="over"),
        pytest.param({}, "", "has no owner that would replace it", id="unowned"),
        pytest.param({"owner": "ReplicaSet", "namespace": "other"}, "", "is in a namespace", id="foreign"),
        pytest.param({"owner": "ReplicaSet", "volume": True}, "", "keeps data in an emptyDir", id="data"),
    ],
)
def test_what_a_drain_makes_of_a_pod(pod: dict[str, Any], stays: str, blocks: str) -> None:
    """DaemonSet, static and finished pods stay; a pod that would be lost blocks the drain; the others go."""
    owners = [{"kind": pod["owner"], "controller": True, "uid": "o"}] if "owner" in pod else []
    object_ = {
        "metadata": {
            "namespace": pod.get("namespace", "shop"),
            "name": "p",
            "uid": "u",
            "ownerReferences": owners,
            "annotations": {"kubernetes.io/config.mirror": "x"} if pod.get("mirror") else {},
        },
        "spec": {"volumes": [{"name": "v", "emptyDir": {}}] if pod.get("volume") else []},
        "status": {"phase": pod.get("phase", "Running")},
    }

    found = classify(object_, {"shop"}, lose_empty_dirs=False)

    assert found.stays == stays
    assert found.blocks.startswith(blocks)
    assert bool(found.blocks) == bool(blocks)
