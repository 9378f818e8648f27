"""Scaling, restarting and rolling back workloads, where the answer has to be no, or not yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from remediator.actions.kubernetes.autoscaler import RaiseHpaCeiling
from remediator.actions.kubernetes.restart import RolloutRestart, RolloutRestartParams
from remediator.actions.kubernetes.rollback import RolloutUndo
from remediator.actions.kubernetes.scale import Scale
from remediator.domain.plans import Effect, Progress
from remediator.errors import OutcomeUnknown, PermanentFailure
from tests.support.kubernetes_cases import image_of, mark_verified, set_image
from tests.support.kubernetes_objects import ONE, THREE, TWO, Objects
from tests.support.kubernetes_use import connection, no, plan
from tests.support.waiting import eventually, until

pytest_plugins = ["tests.support.kubernetes_fixtures"]

ARGO = {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/api"}}
FLUX = {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}


async def outcome(kind: Any, mine: Objects, allows: Mapping[str, Any], **params: Any) -> Effect:
    """Plan, apply, and return the effect."""
    action = kind(connection(mine, allows))
    try:
        effect = await plan(action, namespace=mine.namespace, **params)
        await action.apply(effect)
        return effect
    finally:
        await action.close()


async def refused(kind: Any, mine: Objects, **params: Any) -> str:
    """Plan what must be refused; why it was."""
    return await no(kind(connection(mine, ALLOWED)), namespace=mine.namespace, **params)


API = {"workload": "Deployment/api"}
ALLOWED = {
    "workloads": ["Deployment/api"],
    "max_replicas": {"Deployment/api": 20},
    "autoscalers": {"api": 20},
}


async def test_what_an_autoscaler_owns_is_not_scaled(mine: Objects) -> None:
    """Where an autoscaler aims at the workload, scaling is refused and names the action to use instead."""
    mine.workload(replicas=2)
    mine.autoscaler("front", most=10)

    told = await refused(Scale, mine, **API, replicas=5, max_replicas=20)

    assert "the autoscaler front owns the replicas" in told
    assert "kubernetes.raise_hpa_ceiling" in told


async def test_scaling_stops_at_the_lower_of_both_maxima(mine: Objects) -> None:
    """A step beyond what is safe ends at the maximum, and from there no further step is allowed."""
    mine.workload(replicas=18)

    effect = await outcome(Scale, mine, ALLOWED, **API, step=6, max_replicas=25)
    again = await refused(Scale, mine, **API, step=6, max_replicas=25)

    assert effect.after == {"replicas": 20}
    assert "20 is the most that is safe" in again


async def test_an_autoscaler_never_gets_a_ceiling_above_what_is_safe(mine: Objects) -> None:
    """A documented maximum of 20 holds, whatever the rule asks for."""
    mine.autoscaler(most=20)

    told = await refused(RaiseHpaCeiling, mine, autoscaler="api", ceiling_replicas=25, max_replicas=25)

    assert "20 is the most that is safe" in told


@pytest.mark.parametrize(("mark", "tool"), [(ARGO, "Argo CD"), (FLUX, "Flux")], ids=["argo-cd", "flux"])
async def test_what_git_owns_is_changed_in_git(mine: Objects, mark: dict[str, Any], tool: str) -> None:
    """Replicas, ceiling and template that Argo CD or Flux would put back are not touched."""
    mine.workload(replicas=2, meta=mark)
    mark_verified(mine)
    set_image(mine, TWO)
    mine.autoscaler(most=5, target="other", **mark)

    told = [
        await refused(Scale, mine, **API, replicas=5, max_replicas=20),
        await refused(RaiseHpaCeiling, mine, autoscaler="api", step=1, max_replicas=20),
        await refused(RolloutUndo, mine, **API),
    ]

    assert all(one.startswith(f"{tool} owns spec.") for one in told), told


async def test_git_may_leave_the_replicas_alone(mine: Objects) -> None:
    """Where server-side apply shows that the tool sets the template and not the replicas, scaling is allowed."""
    mine.workload(replicas=2)
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", "labels": FLUX["labels"]},
        "spec": {"revisionHistoryLimit": 5},
    }
    path = mine.path("apps/v1", "deployments", "api") + "?fieldManager=kustomize-controller&force=true"
    mine.cluster.call("PATCH", path, body, content_type="application/apply-patch+yaml")

    effect = await outcome(Scale, mine, ALLOWED, **API, replicas=3, max_replicas=20)

    assert effect.after == {"replicas": 3}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_other_workloads_are_restarted_too(mine: Objects, kind: str) -> None:
    """All pods of a StatefulSet or DaemonSet are replaced, and the restart waits for them."""
    mine.workload(kind=kind, replicas=2)
    before = mine.pod_uids()

    effect = await outcome(
        RolloutRestart, mine, {"workloads": [f"{kind}/api"]}, workload=f"{kind}/api", wait_seconds=60
    )

    assert effect.figures["pods"] == len(before) == len(mine.pod_uids())
    assert not set(before) & set(mine.pod_uids())


async def test_a_restart_that_interrupts_needs_a_word(mine: Objects) -> None:
    """A Deployment that stops all pods first is restarted only where downtime is accepted."""
    mine.workload(replicas=2, spec={"strategy": {"type": "Recreate"}})

    told = await refused(RolloutRestart, mine, **API)
    effect = await outcome(RolloutRestart, mine, ALLOWED, **API, accept_downtime=True, wait_seconds=60)

    assert "Recreate" in told
    assert "with downtime" in effect.summary


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"paused": True}, "paused"), ({"replicas": 0}, "has no pods")],
    ids=["paused", "scaled-to-none"],
)
async def test_a_restart_that_would_do_nothing_is_refused(
    mine: Objects, spec: dict[str, Any], reason: str
) -> None:
    """Neither a paused Deployment nor one without pods is annotated."""
    mine.workload(replicas=1, spec=spec, ready=False)

    assert reason in await refused(RolloutRestart, mine, **API)


async def test_a_rollout_that_does_not_get_ready_is_not_called_done(mine: Objects) -> None:
    """When the new pods are not ready in time the outcome is unknown, and a second look calls it unclear."""
    mine.workload(replicas=2, spec={"minReadySeconds": 3600, "progressDeadlineSeconds": 7200}, ready=False)
    until(lambda: mine.ready_pods() == 2, within=30, what="the pods")
    action = RolloutRestart(connection(mine, ALLOWED))
    effect = await plan(action, namespace=mine.namespace, **API, wait_seconds=1)

    with pytest.raises(OutcomeUnknown, match="is not rolled out after 1 s"):
        await action.apply(effect)
    seen = await action.observe(RolloutRestartParams.model_validate(effect.params))
    await action.close()

    assert action.progress(effect, seen) is Progress.UNCLEAR


async def test_a_cancelled_restart_is_found_out_by_looking(mine: Objects) -> None:
    """Cancelled while it waits for the pods, the restart has begun, and applying again only waits for it."""
    mine.workload(replicas=2, spec={"minReadySeconds": 5}, ready=False)
    until(lambda: mine.ready_pods() == 2, within=30, what="the pods")
    action = RolloutRestart(connection(mine, ALLOWED))
    effect = await plan(action, namespace=mine.namespace, **API, wait_seconds=60)
    generation = mine.see("apps/v1", "deployments", "api")["metadata"]["generation"]

    async def begun() -> bool:
        return bool(mine.see("apps/v1", "deployments", "api")["metadata"]["generation"] == generation + 1)

    task = asyncio.create_task(action.apply(effect))
    await eventually(begun, what="the restart's beginning")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await action.apply(effect)
    await action.close()

    assert not again.changed
    assert mine.see("apps/v1", "deployments", "api")["metadata"]["generation"] == generation + 1


async def test_a_rollback_takes_the_newest_verified_revision(mine: Objects) -> None:
    """Revision 1 is verified and 2 is not: from 3 it goes back to 1, and says so."""
    mine.workload(replicas=2, image=ONE)
    mark_verified(mine)
    for image in (TWO, THREE):
        set_image(mine, image)
        until(mine.settled, within=30, what="the release")

    effect = await outcome(RolloutUndo, mine, ALLOWED, **API, wait_seconds=60)

    assert "from revision 3" in effect.summary
    assert "to 1 (registry.test/app@111111111111)" in effect.summary
    assert image_of(mine) == ONE


async def test_a_rollback_to_what_nobody_verified_is_refused(mine: Objects) -> None:
    """Without a verified revision there is nothing to go back to, nor to one whose image may have changed since."""
    mine.workload(replicas=2, image="registry.test/app:1.0")
    set_image(mine, TWO)
    until(mine.settled, within=30, what="the release")

    unverified = await refused(RolloutUndo, mine, **API)
    for one in mine.all("apps/v1", "replicasets"):
        body = {"metadata": {"annotations": {"remediator/verified": "true"}}}
        mine.patch("apps/v1", "replicasets", one["metadata"]["name"], body)
    unpinned = await refused(RolloutUndo, mine, **API)

    assert "is marked remediator/verified=true" in unverified
    assert "names an image without its digest" in unpinned


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_other_workloads_are_rolled_back_and_forward(mine: Objects, kind: str) -> None:
    """A StatefulSet or DaemonSet goes back to the verified ControllerRevision, and its undo forward again."""
    resource = f"{kind.lower()}s"
    mine.workload(kind=kind, replicas=2, image=ONE)
    for one in mine.all("apps/v1", "controllerrevisions"):
        body = {"metadata": {"annotations": {"remediator/verified": "true"}}}
        mine.patch("apps/v1", "controllerrevisions", one["metadata"]["name"], body)
    set_image(mine, TWO, resource=resource)
    until(lambda: mine.settled(kind=kind), within=60, what="the release")
    action = RolloutUndo(connection(mine, {"workloads": [f"{kind}/api"]}))
    effect = await plan(action, namespace=mine.namespace, workload=f"{kind}/api", wait_seconds=60)

    result = await action.apply(effect)
    back = image_of(mine, resource=resource)
    await action.undo(effect, result)
    await action.close()

    assert back == ONE
    assert image_of(mine, resource=resource) == TWO


async def test_a_rotated_token_is_read_again(mine: Objects, tmp_path: Path) -> None:
    """When the server refuses a token, the kubeconfig is read once more, so that a new token is used at once."""
    mine.workload(replicas=2)
    where = {
        "namespace": mine.namespace,
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "verbs": ["get"],
    }
    good = mine.cluster.kubeconfig_with([where], home=mine.namespace)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(good.read_text().replace('"token": "', '"token": "x'))
    action = RolloutRestart(connection(mine, ALLOWED).model_copy(update={"kubeconfig_file": kubeconfig}))
    params = RolloutRestartParams(connection="cluster", namespace=mine.namespace, **API)  # type: ignore[arg-type]
    with pytest.raises(PermanentFailure, match="was answered 401"):
        await action.observe(params)

    kubeconfig.write_text(good.read_text())
    seen = await action.observe(params)
    await action.close()

    assert seen.workload is not None
