"""What the Kubernetes actions plan for rollouts, autoscalers, jobs, nodes, volumes and settings; all pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediator.actions.kubernetes.autoscaler import RaiseHpaCeiling, RaiseHpaCeilingParams, SeenAutoscaler
from remediator.actions.kubernetes.configkey import SeenConfigMap, SetConfigKey, SetConfigKeyParams
from remediator.actions.kubernetes.connection import KubernetesConnection, Namespace
from remediator.actions.kubernetes.cronjob import Job, RunCronJob, RunCronJobParams, SeenCronJob
from remediator.actions.kubernetes.drain import Drain, DrainedPod, DrainParams, SeenNode
from remediator.actions.kubernetes.nodes import Cordon, CordonParams, Node, Uncordon, UncordonParams
from remediator.actions.kubernetes.restart import (
    ANNOTATION,
    RolloutRestart,
    RolloutRestartParams,
    SeenWorkload,
    restart_token,
)
from remediator.actions.kubernetes.revisions import Revision, revisions
from remediator.actions.kubernetes.rollback import RolloutUndo, RolloutUndoParams, SeenRevisions
from remediator.actions.kubernetes.volume import GrowVolume, GrowVolumeParams, SeenClaim
from remediator.actions.kubernetes.workloads import Workload, read, template_digest
from remediator.domain.plans import Progress
from remediator.errors import ActionError, NothingSelected, Refused

CONNECTION = KubernetesConnection(
    kind="kubernetes", kubeconfig_file=Path("/nowhere"), namespaces={"shop": Namespace(), "web": Namespace()}
)
WHERE: dict[str, Any] = {"connection": "c", "namespace": "shop"}
GIB = 2**30


def template(image: str) -> dict[str, Any]:
    """A pod template with that image."""
    return {
        "metadata": {"labels": {"app": "api"}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


def workload(
    image: str = "app@sha256:333", *, ready: bool = True, annotations: dict[str, str] | None = None
) -> Workload:
    """A Deployment of two pods; the annotations are its template's."""
    mine = template(image)
    if annotations:
        mine["metadata"]["annotations"] = annotations
    status = {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "availableReplicas": 2 if ready else 1,
    }
    return read(
        "Deployment",
        {
            "metadata": {"namespace": "shop", "name": "api", "uid": "u1", "generation": 1},
            "spec": {"replicas": 2, "template": mine, "selector": {"matchLabels": {"app": "api"}}},
            "status": status,
        },
    )


def replica_set(number: int, image: str, *, verified: bool = False, owner: str = "u1") -> dict[str, Any]:
    """The ReplicaSet of a revision, as the Deployment controller writes it."""
    mine = template(image)
    mine["metadata"]["labels"]["pod-template-hash"] = f"hash{number}"
    annotations = {"deployment.kubernetes.io/revision": str(number)}
    if verified:
        annotations["remediator/verified"] = "true"
    owners = [{"controller": True, "uid": owner}]
    meta = {"uid": f"rs{number}", "annotations": annotations, "ownerReferences": owners}
    return {"metadata": meta, "spec": {"template": mine}}


def kept(*objects: dict[str, Any]) -> tuple[Revision, ...]:
    """These revisions of the workload."""
    return revisions(workload(), objects)


NEWEST = replica_set(3, "app@sha256:333")


def test_revisions_are_the_workloads_own_and_sorted() -> None:
    """Those of another owner are left out, the newest comes first, and the template is without its hash."""
    found = kept(
        replica_set(1, "a"), replica_set(10, "b"), replica_set(2, "c"), replica_set(4, "x", owner="u2")
    )

    assert [one.number for one in found] == [10, 2, 1]
    assert found[0].digest == template_digest(template("b"))


def rollback_plan(seen: tuple[Revision, ...], **params: Any) -> Any:
    """Plan a rollback of the workload."""
    valid = RolloutUndoParams.model_validate({**WHERE, "workload": "Deployment/api", **params})
    (effect,) = RolloutUndo(CONNECTION).plan(valid, SeenRevisions(workload(), seen))
    return effect


def test_a_rollback_names_both_releases() -> None:
    """The newest verified older revision is chosen, and the summary has both images."""
    effect = rollback_plan(
        kept(NEWEST, replica_set(2, "app@sha256:222"), replica_set(1, "app@sha256:111", verified=True))
    )

    assert effect.after == {"template": template_digest(template("app@sha256:111"))}
    assert "from revision 3 (app@333) to 1 (app@111), 2 pods" in effect.summary
    assert effect.undo == "roll it forward to revision 3 again"


@pytest.mark.parametrize(
    ("seen", "params", "error", "reason"),
    [
        pytest.param((NEWEST,), {}, NothingSelected, "keeps no such older revision", id="none"),
        pytest.param(
            (NEWEST, replica_set(2, "app@sha256:222", verified=True)),
            {"revision": 1},
            NothingSelected,
            "keeps no such older revision",
            id="not-that-one",
        ),
        pytest.param(
            (NEWEST, replica_set(2, "app@sha256:222")),
            {},
            Refused,
            "is marked remediator/verified",
            id="unverified",
        ),
        pytest.param(
            (NEWEST, replica_set(2, "app:2", verified=True)), {}, Refused, "without its digest", id="unpinned"
        ),
        pytest.param(
            (replica_set(4, "other", verified=True),), {}, Refused, "has not taken up yet", id="not-taken-up"
        ),
    ],
)
def test_a_rollback_is_refused(
    seen: tuple[dict[str, Any], ...], params: dict[str, Any], error: type[ActionError], reason: str
) -> None:
    """Without a verified, pinned, older revision, or with a template that is not taken up, nothing is planned."""
    with pytest.raises(error, match=reason):
        rollback_plan(kept(*seen), **params)


def test_a_tag_may_be_accepted() -> None:
    """Where the rule says that tags are never moved, an image may be named by one."""
    effect = rollback_plan(kept(NEWEST, replica_set(2, "app:2", verified=True)), pinned_images=False)

    assert "to 2 (app:2)" in effect.summary


def test_a_restart_is_known_by_its_template() -> None:
    """Untouched with the old template, done with the restarted one when it is ready, unclear while it is not."""
    action = RolloutRestart(CONNECTION)
    params = RolloutRestartParams.model_validate({**WHERE, "workload": "Deployment/api"})
    (effect,) = action.plan(params, SeenWorkload(workload()))
    annotations = {ANNOTATION: restart_token(workload())}
    restarted, waiting = (workload(ready=ready, annotations=annotations) for ready in (True, False))
    other = workload("app@sha256:444")

    assert action.progress(effect, SeenWorkload(restarted)) is Progress.DONE
    assert action.progress(effect, SeenWorkload(waiting)) is Progress.UNCLEAR
    assert action.progress(effect, SeenWorkload(workload())) is Progress.UNTOUCHED
    assert action.progress(effect, SeenWorkload(other)) is Progress.UNCLEAR
    assert action.progress(effect, SeenWorkload(None)) is Progress.UNCLEAR


def autoscaler(now: int) -> dict[str, Any]:
    """An autoscaler with that ceiling."""
    return {"metadata": {"uid": "h1"}, "spec": {"maxReplicas": now}, "status": {"currentReplicas": now}}


@pytest.mark.parametrize(("now", "expected"), [(10, 12), (19, 20)], ids=["a-step", "up-to-the-maximum"])
def test_a_ceiling_is_raised_by_a_step(now: int, expected: int) -> None:
    """It ends at the lower of both maxima, and its undo is the old one."""
    params = RaiseHpaCeilingParams.model_validate(
        {**WHERE, "autoscaler": "api", "step": 2, "max_replicas": 25}
    )

    (effect,) = RaiseHpaCeiling(CONNECTION).plan(params, SeenAutoscaler(autoscaler(now), 20))

    assert effect.after == {"max_replicas": expected}
    assert effect.undo == f"lower the ceiling back to {now}"


@pytest.mark.parametrize(
    ("wish", "seen", "error"),
    [
        pytest.param({"step": 2}, autoscaler(20), Refused, id="at-the-maximum"),
        pytest.param({"ceiling_replicas": 21}, autoscaler(10), Refused, id="above-the-maximum"),
        pytest.param({"ceiling_replicas": 8}, autoscaler(10), NothingSelected, id="lower"),
        pytest.param({"step": 2}, None, NothingSelected, id="none"),
    ],
)
def test_a_ceiling_is_not_raised(
    wish: dict[str, int], seen: dict[str, Any] | None, error: type[ActionError]
) -> None:
    """Never above the maximum and never lowered."""
    params = RaiseHpaCeilingParams.model_validate({**WHERE, "autoscaler": "api", "max_replicas": 25, **wish})

    with pytest.raises(error):
        RaiseHpaCeiling(CONNECTION).plan(params, SeenAutoscaler(seen, 20))


def cron_job(**spec: Any) -> dict[str, Any]:
    """A CronJob."""
    return {
        "metadata": {"name": "export", "uid": "c1"},
        "spec": {"jobTemplate": {"spec": {}}, **spec},
        "status": {},
    }


def job_name(seen: SeenCronJob, cron_job_name: str = "export") -> str:
    """The name that a plan gives its job."""
    params = RunCronJobParams.model_validate({**WHERE, "cron_job": cron_job_name})
    (effect,) = RunCronJob(CONNECTION).plan(params, seen)
    name: str = effect.after["job"]
    return name


def test_a_job_has_one_name_for_one_state() -> None:
    """The same state gives the same name, a job made since another one, and the longest CronJob's name still fits."""
    over = Job("export-1", "j1", "2026-01-01T00:00:00Z", active=False)
    fresh, later = SeenCronJob(cron_job(), ()), SeenCronJob(cron_job(), (over,))

    assert job_name(fresh) == job_name(fresh) != job_name(later)
    assert len(job_name(fresh, "e" * 52 + "x" * 40)) <= 63


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(SeenCronJob(None, ()), NothingSelected, id="none"),
        pytest.param(SeenCronJob(cron_job(suspend=True), ()), Refused, id="suspended"),
        pytest.param(
            SeenCronJob(cron_job(), (Job("export-1", "j", "t", active=True),)), Refused, id="active"
        ),
    ],
)
def test_a_cron_job_is_not_run(seen: SeenCronJob, error: type[ActionError]) -> None:
    """Not while suspended, nor beside another run."""
    with pytest.raises(error):
        job_name(seen)


def test_a_job_that_is_there_was_made() -> None:
    """Done with a job of that name, untouched without, unclear where the CronJob changed."""
    action = RunCronJob(CONNECTION)
    params = RunCronJobParams.model_validate({**WHERE, "cron_job": "export"})
    (effect,) = action.plan(params, SeenCronJob(cron_job(), ()))
    made = Job(effect.after["job"], "j1", "t", active=True)

    assert action.progress(effect, SeenCronJob(cron_job(), (made,))) is Progress.DONE
    assert action.progress(effect, SeenCronJob(cron_job(), ())) is Progress.UNTOUCHED
    assert (
        action.progress(effect, SeenCronJob(cron_job(suspend=False, jobTemplate={}), ())) is Progress.UNCLEAR
    )


def node(*, cordoned: bool = False, ready: bool = True, others: int = 3) -> Node:
    """A node."""
    return Node("n1", "n-uid", cordoned, ready, others)


@pytest.mark.parametrize(
    ("seen", "error"),
    [(None, NothingSelected), (node(cordoned=True), NothingSelected), (node(others=1), Refused)],
    ids=["none", "cordoned-already", "too-few-others"],
)
def test_a_node_is_not_cordoned(seen: Node | None, error: type[ActionError]) -> None:
    """Not twice, and not while too few others take pods."""
    params = CordonParams(connection="c", node="n1", min_schedulable_nodes=2)

    with pytest.raises(error):
        Cordon(CONNECTION).plan(params, seen)


@pytest.mark.parametrize(
    ("seen", "error"),
    [(node(), NothingSelected), (node(cordoned=True, ready=False), Refused)],
    ids=["takes-pods", "not-ready"],
)
def test_a_node_is_not_uncordoned(seen: Node, error: type[ActionError]) -> None:
    """Not without need, and not while it is not ready."""
    with pytest.raises(error):
        Uncordon(CONNECTION).plan(UncordonParams(connection="c", node="n1"), seen)


PODS = (
    DrainedPod("shop", "a", "1", leaving=False),
    DrainedPod("web", "b", "2", leaving=False),
    DrainedPod("shop", "agent", "3", leaving=False, stays="belongs to a DaemonSet"),
)


def test_a_drain_is_bounded_by_what_was_seen() -> None:
    """The plan counts who goes and who stays, allows a few more at most, and is undone only if it cordons."""
    params = DrainParams(connection="c", node="n1")
    (effect,) = Drain(CONNECTION).plan(params, SeenNode(node(), PODS))
    (cordoned,) = Drain(CONNECTION).plan(params, SeenNode(node(cordoned=True), PODS))

    assert "evict 2 pods, 1 stay" in effect.summary
    assert effect.figures["pods"] == 2
    assert effect.at_most == {"pods": 7}
    assert effect.undo
    assert not cordoned.undo


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (SeenNode(node(cordoned=True), PODS[2:]), Progress.DONE),
        (SeenNode(node(cordoned=True), PODS), Progress.UNCLEAR),
        (SeenNode(node(), PODS), Progress.UNTOUCHED),
        (SeenNode(None, ()), Progress.UNCLEAR),
    ],
    ids=["empty", "half-empty", "takes-pods", "gone"],
)
def test_drain_progress(seen: SeenNode, expected: Progress) -> None:
    """Done when cordoned and empty; half empty is for a person."""
    action = Drain(CONNECTION)
    (effect,) = action.plan(DrainParams(connection="c", node="n1"), SeenNode(node(), PODS))

    assert action.progress(effect, seen) is expected


@pytest.mark.parametrize(
    ("others", "namespaces"),
    [(False, ["shop", "web"]), (True, [""])],
    ids=["the-named-ones", "all"],
)
def test_a_drain_may_evict_only_where_it_is_allowed(others: bool, namespaces: list[str]) -> None:
    """The printed rights to evict are those of the connection's namespaces, unless all are allowed."""
    action = Drain(CONNECTION.model_copy(update={"drain_other_namespaces": others}))

    rules = action.permissions(DrainParams(connection="c", node="n1")).kubernetes

    assert [one["namespace"] for one in rules if one["resources"] == ["pods/eviction"]] == namespaces


def claim(size: str = "10Gi", class_: str = "fast", phase: str = "Bound") -> dict[str, Any]:
    """A volume claim."""
    spec = {"storageClassName": class_, "resources": {"requests": {"storage": size}}}
    return {"metadata": {"uid": "v1"}, "spec": spec, "status": {"phase": phase}}


def volume_params(**wish: Any) -> GrowVolumeParams:
    """Parameters of a claim that may have 100 GiB."""
    valid = {**WHERE, "claim": "data", "max_bytes": 100 * GIB, "storage_class": "fast"}
    return GrowVolumeParams.model_validate({**valid, **wish})


@pytest.mark.parametrize(
    ("wish", "expected"),
    [({"add_bytes": 5 * GIB}, 15), ({"size_bytes": 12 * GIB}, 12), ({"add_bytes": 90 * GIB}, 50)],
    ids=["more", "a-size", "up-to-the-maximum"],
)
def test_a_volume_grows(wish: dict[str, int], expected: int) -> None:
    """Within the connection's 50 GiB, and it says that nothing takes it back."""
    (effect,) = GrowVolume(CONNECTION).plan(volume_params(**wish), SeenClaim(claim(), True, 50 * GIB))

    assert effect.after == {"bytes": expected * GIB}
    assert effect.irreversible
    assert not effect.undo


@pytest.mark.parametrize(
    ("wish", "seen", "error"),
    [
        pytest.param({"size_bytes": 51 * GIB}, SeenClaim(claim(), True, 50 * GIB), Refused, id="above"),
        pytest.param(
            {"add_bytes": 1}, SeenClaim(claim("50Gi"), True, 50 * GIB), Refused, id="at-the-maximum"
        ),
        pytest.param({"size_bytes": GIB}, SeenClaim(claim(), True, 50 * GIB), NothingSelected, id="smaller"),
        pytest.param({"add_bytes": 1}, SeenClaim(claim(), False, 50 * GIB), Refused, id="cannot-grow"),
        pytest.param(
            {"add_bytes": 1}, SeenClaim(claim(class_="slow"), True, 50 * GIB), Refused, id="other-class"
        ),
        pytest.param(
            {"add_bytes": 1}, SeenClaim(claim(phase="Pending"), True, 50 * GIB), Refused, id="not-bound"
        ),
        pytest.param({"add_bytes": 1}, SeenClaim(None, True, 50 * GIB), NothingSelected, id="none"),
    ],
)
def test_a_volume_does_not_grow(wish: dict[str, int], seen: SeenClaim, error: type[ActionError]) -> None:
    """Not beyond a maximum, not smaller, and not where its class or state does not let it."""
    with pytest.raises(error):
        GrowVolume(CONNECTION).plan(volume_params(**wish), seen)


def config_map(value: str | None, **others: Any) -> SeenConfigMap:
    """A ConfigMap whose key A has that value."""
    data = {} if value is None else {"A": value}
    return SeenConfigMap({"metadata": {"uid": "m1"}, "data": data, **others})


def test_a_setting_shows_both_values() -> None:
    """The summary has the old and the new value, cut where they are long; the undo the old one."""
    params = SetConfigKeyParams.model_validate({**WHERE, "config_map": "app", "key": "A", "value": "n" * 100})
    (effect,) = SetConfigKey(CONNECTION).plan(params, config_map("old"))

    assert f"'old' -> '{'n' * 60}…'" in effect.summary
    assert effect.undo == "set it back to 'old'"


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        pytest.param(SeenConfigMap(None), NothingSelected, id="none"),
        pytest.param(config_map("new"), NothingSelected, id="has-it"),
        pytest.param(config_map("old", immutable=True), Refused, id="immutable"),
        pytest.param(config_map(None, binaryData={"A": "AA=="}), Refused, id="binary"),
    ],
)
def test_a_setting_is_not_set(seen: SeenConfigMap, error: type[ActionError]) -> None:
    """Not where there is nothing to set, or it cannot be set as text."""
    params = SetConfigKeyParams.model_validate({**WHERE, "config_map": "app", "key": "A", "value": "new"})

    with pytest.raises(error):
        SetConfigKey(CONNECTION).plan(params, seen)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("new", Progress.DONE),
        ("old", Progress.UNTOUCHED),
        ("third", Progress.UNCLEAR),
        (None, Progress.UNCLEAR),
    ],
)
def test_setting_progress(value: str | None, expected: Progress) -> None:
    """Done with the new value, untouched with the old one, unclear with any other."""
    params = SetConfigKeyParams.model_validate({**WHERE, "config_map": "app", "key": "A", "value": "new"})
    action = SetConfigKey(CONNECTION)
    (effect,) = action.plan(params, config_map("old"))

    assert action.progress(effect, config_map(value)) is expected
