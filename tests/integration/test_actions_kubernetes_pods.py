"""Evicting pods and draining nodes, where a budget, an owner or a neighbour says no."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from remediator.actions.kubernetes.connection import KubernetesConnection
from remediator.actions.kubernetes.drain import Drain
from remediator.actions.kubernetes.evict import EvictPod
from remediator.actions.kubernetes.nodes import Cordon, Uncordon
from remediator.errors import OutcomeUnknown, TemporaryFailure
from tests.support.kubernetes_cases import is_cordoned, only_on, pods_on
from tests.support.kubernetes_objects import Objects
from tests.support.kubernetes_use import connection, no, plan
from tests.support.waiting import until

pytest_plugins = ["tests.support.kubernetes_fixtures"]

LOOSE = {"containers": [{"name": "main", "image": "registry.test/loose"}], "terminationGracePeriodSeconds": 0}


@pytest.fixture
def node(mine: Objects) -> Iterator[str]:
    """A node that takes only the pods of the test's namespace."""
    name = f"node-{mine.namespace}"
    mine.cluster.add_node(name, only_for=mine.namespace)
    yield name
    mine.cluster.call("DELETE", f"/api/v1/nodes/{name}")


def allowed(mine: Objects, **others: Any) -> KubernetesConnection:
    """A connection to the namespace, its workload and its node."""
    workloads = {"workloads": ["Deployment/api", "StatefulSet/api"]}
    return connection(mine, workloads, **{"nodes": [f"node-{mine.namespace}"], **others})


async def test_an_unowned_pod_is_not_evicted(mine: Objects) -> None:
    """A stuck pod that has the workload's labels but no owner would not come back: it is refused, and passed over
    where no pod is named.
    """
    mine.workload(replicas=2)
    # A controller adopts what its selector finds, unless something else controls it already.
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "0", "controller": True}
    made = mine.make("v1", "configmaps", {"metadata": {"name": "x"}})
    owner["uid"] = made["metadata"]["uid"]
    meta = {"name": "loose", "labels": {"app": "api"}, "ownerReferences": [owner]}
    mine.make("v1", "pods", {"metadata": meta, "spec": LOOSE})
    until(lambda: mine.ready_pods() == 3, within=30, what="the loose pod")
    mine.make_stuck(mine.see("v1", "pods", "loose"))

    where = {"namespace": mine.namespace, "workload": "Deployment/api"}
    named = await no(EvictPod(allowed(mine)), **where, pod="loose")
    unnamed = await no(EvictPod(allowed(mine)), **where)

    assert "is not owned by Deployment/api" in named
    assert "no pod of Deployment/api" in unnamed


async def test_too_few_other_ready_pods_are_a_no(mine: Objects) -> None:
    """With one other ready pod where two are asked for, the stuck one stays."""
    mine.workload(replicas=2)
    mine.make_stuck(mine.pods()[0])

    told = await no(EvictPod(allowed(mine)), namespace=mine.namespace, workload="Deployment/api", min_ready=2)

    assert "1 other pods are ready, and 2 are needed" in told


async def test_a_pod_that_is_ready_is_not_stuck(mine: Objects) -> None:
    """Named or not, a ready pod is not evicted."""
    mine.workload(replicas=2)
    where = {"namespace": mine.namespace, "workload": "Deployment/api"}

    told = await no(EvictPod(allowed(mine)), **where, pod=mine.pods()[0]["metadata"]["name"])

    assert "is stuck for 600 s" in told


async def test_a_budget_holds_a_pod(mine: Objects) -> None:
    """A disruption budget that allows nothing makes the eviction fail for now, and the pod stays."""
    mine.workload(replicas=3)
    mine.budget(min_available=3)
    mine.make_stuck(mine.pods()[0])
    before = mine.pod_uids()
    action = EvictPod(allowed(mine))
    effect = await plan(action, namespace=mine.namespace, workload="Deployment/api")

    with pytest.raises(TemporaryFailure, match="disruption budget"):
        await action.apply(effect)
    await action.close()

    assert before == mine.pod_uids()


async def test_the_next_pod_of_the_same_name_is_left_alone(mine: Objects) -> None:
    """A StatefulSet gives the new pod the old name: applying the same effect again does not evict that one."""
    mine.workload(kind="StatefulSet", replicas=2)
    mine.make_stuck(mine.pods()[1])
    action = EvictPod(allowed(mine))
    effect = await plan(action, namespace=mine.namespace, workload="StatefulSet/api")
    before = mine.pod_uids()

    first = await action.apply(effect)
    until(lambda: mine.ready_pods() == 2 and mine.pod_uids() != before, within=30, what="the new pod")
    after = mine.pod_uids()
    second = await action.apply(effect)
    await action.close()

    assert first.changed
    assert not second.changed
    assert after == mine.pod_uids()


async def test_a_drain_leaves_the_pods_of_daemon_sets(mine: Objects, node: str) -> None:
    """The Deployment's pods go; the DaemonSet's stays, and the plan counts both."""
    home = only_on(mine.namespace)
    mine.workload(replicas=2, pod=home)
    mine.workload("agent", kind="DaemonSet", replicas=1, pod=home)
    action = Drain(allowed(mine))
    effect = await plan(action, node=node, wait_seconds=60)

    result = await action.apply(effect)
    await action.close()

    assert "evict 2 pods, 1 stay" in effect.summary
    assert result.evidence == {"evicted": 2}
    assert [name.rsplit("-", 1)[0] for name in pods_on(mine, node)] == ["agent"]


async def test_a_drain_that_a_budget_holds_altogether_is_taken_back(mine: Objects, node: str) -> None:
    """Where no pod may go, the node takes pods again afterwards and nothing has changed."""
    mine.workload(replicas=2, pod=only_on(mine.namespace))
    mine.budget(min_available=2)
    before = pods_on(mine, node)
    action = Drain(allowed(mine))
    effect = await plan(action, node=node, wait_seconds=2)

    with pytest.raises(TemporaryFailure, match="disruption budget"):
        await action.apply(effect)
    await action.close()

    assert not is_cordoned(mine, node)
    assert before == pods_on(mine, node)


async def test_a_drain_that_a_budget_stops_half_way_says_what_is_left(mine: Objects, node: str) -> None:
    """The budget lets one of two go, whose replacement fits nowhere: the node stays cordoned, the outcome unknown."""
    mine.workload(replicas=2, pod=only_on(mine.namespace))
    mine.budget(min_available=1)
    action = Drain(allowed(mine))
    effect = await plan(action, node=node, wait_seconds=3)

    with pytest.raises(OutcomeUnknown, match=r"1 pods are left .* 1 were evicted"):
        await action.apply(effect)
    await action.close()

    assert is_cordoned(mine, node)
    assert len(pods_on(mine, node)) == 1


async def test_a_drain_that_would_lose_something_is_refused(mine: Objects, node: str) -> None:
    """An unowned pod, data in an emptyDir, a foreign namespace, and too many pods are each a no; nothing happens."""
    home = only_on(mine.namespace)
    mine.make("v1", "pods", {"metadata": {"name": "loose"}, "spec": {**LOOSE, **home}})
    until(lambda: pods_on(mine, node) == ["loose"], within=30, what="the loose pod")
    unowned = await no(Drain(allowed(mine)), node=node)
    mine.cluster.call("DELETE", mine.path("v1", "pods", "loose"))
    mine.workload(replicas=2, pod={**home, "volumes": [{"name": "cache", "emptyDir": {}}]})
    until(lambda: len(pods_on(mine, node)) == 2, within=30, what="the end of the loose pod")

    data = await no(Drain(allowed(mine)), node=node)
    foreign = await no(Drain(allowed(mine, namespaces={})), node=node, lose_empty_dirs=True)
    many = await no(Drain(allowed(mine)), node=node, lose_empty_dirs=True, max_pods=1)

    assert "loose has no owner that would replace it" in unowned
    assert "keeps data in an emptyDir" in data
    assert "is in a namespace that the connection does not allow" in foreign
    assert "2 pods to evict, more than 1" in many
    assert not is_cordoned(mine, node)


async def test_a_node_is_spared_while_others_are_few(mine: Objects, node: str) -> None:
    """Neither cordon nor drain where too few other nodes take pods."""
    mine.workload(replicas=1, pod=only_on(mine.namespace))

    cordon = await no(Cordon(allowed(mine)), node=node, min_schedulable_nodes=1000)
    drain = await no(Drain(allowed(mine)), node=node, min_schedulable_nodes=1000)

    assert "1000 are needed to spare" in cordon
    assert "1000 are needed to spare" in drain


async def test_nodes_may_be_allowed_by_label(mine: Objects, node: str) -> None:
    """A connection that names labels allows the nodes that carry all of them, and no other."""
    allows = allowed(mine, nodes=(), node_labels={"home": mine.namespace})

    effect = await plan(action := Cordon(allows), node=node)
    await action.close()

    assert effect.subject == f"node {node}"
    assert "does not allow the node node-a" in await no(Cordon(allows), node="node-a")


async def test_what_is_so_already_is_no_selection(mine: Objects, node: str) -> None:
    """A node that takes pods is not uncordoned, and an empty one is not drained."""
    uncordon = await no(Uncordon(allowed(mine)), node=node)
    drain = await no(Drain(allowed(mine)), node=node)

    assert "takes pods already" in uncordon
    assert "has no pods" in drain
