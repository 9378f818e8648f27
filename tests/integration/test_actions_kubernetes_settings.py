"""Jobs, volumes and settings, where the answer has to be no; and what undo does when somebody came after us."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.actions.kubernetes.configkey import SetConfigKey
from remediator.actions.kubernetes.cronjob import RunCronJob
from remediator.actions.kubernetes.volume import GrowVolume
from remediator.errors import Drifted, TemporaryFailure
from tests.support.kubernetes_objects import Objects
from tests.support.kubernetes_use import connection, no, plan
from tests.support.ports import free_port
from tests.support.waiting import until

pytest_plugins = ["tests.support.kubernetes_fixtures"]

GIB = 2**30
ALLOWS = {
    "cron_jobs": ["export"],
    "volume_claims_bytes": {"data": 4 * GIB},
    "config_maps": {"app": ["LOG_LEVEL", "NEW"]},
}


async def refused(kind: Any, mine: Objects, **params: Any) -> str:
    """Plan what must be refused; why it was."""
    return await no(kind(connection(mine, ALLOWS)), namespace=mine.namespace, **params)


async def test_a_suspended_cron_job_is_not_run(mine: Objects) -> None:
    """Somebody suspended it for a reason."""
    mine.cron_job(suspend=True)

    assert "is suspended" in await refused(RunCronJob, mine, cron_job="export")


async def test_a_cron_job_never_runs_twice_at_once(mine: Objects) -> None:
    """While one of its jobs is not over, a plan is refused, and one that was made before is stale."""
    mine.cron_job()
    action = RunCronJob(connection(mine, ALLOWS))
    effect = await plan(action, namespace=mine.namespace, cron_job="export")
    uid = mine.see("batch/v1", "cronjobs", "export")["metadata"]["uid"]
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "export", "uid": uid, "controller": True}
    pod = {"containers": [{"name": "main", "image": "registry.test/app"}], "restartPolicy": "Never"}
    job = {
        "metadata": {"name": "export-1", "ownerReferences": [owner]},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }
    mine.make("batch/v1", "jobs", job)

    told = await refused(RunCronJob, mine, cron_job="export")
    with pytest.raises(Drifted, match="has a job running by now: export-1"):
        await action.apply(effect)
    await action.close()

    assert "has a job running: export-1" in told
    assert mine.jobs() == ["export-1"]


async def test_a_later_run_has_another_name(mine: Objects) -> None:
    """Once a job is over, a new plan makes a job of a new name; both belong to the CronJob and end by themselves."""
    mine.cron_job()
    action = RunCronJob(connection(mine, ALLOWS))
    first = await plan(action, namespace=mine.namespace, cron_job="export")
    await action.apply(first)
    until(lambda: _is_over(mine, first.after["job"]), within=60, what="the end of the first job")
    second = await plan(action, namespace=mine.namespace, cron_job="export")
    await action.apply(second)
    await action.close()
    made = mine.see("batch/v1", "jobs", second.after["job"])

    assert len({first.after["job"], second.after["job"]}) == len(mine.jobs()) == 2
    assert made["spec"]["ttlSecondsAfterFinished"] == 86_400
    assert made["metadata"]["ownerReferences"][0]["kind"] == "CronJob"


async def test_a_volume_whose_class_cannot_grow_is_left(mine: Objects) -> None:
    """Without allowVolumeExpansion the plan is refused, before the server has to."""
    class_ = mine.volume_claim(expandable=False)

    told = await refused(
        GrowVolume, mine, claim="data", add_bytes=GIB, max_bytes=8 * GIB, storage_class=class_
    )

    assert "does not allow volumes to grow" in told


async def test_a_volume_grows_only_within_its_maximum(mine: Objects) -> None:
    """A size above the connection's maximum is refused, a smaller one than the present too, and another class."""
    class_ = mine.volume_claim(size="2Gi")
    params = {"claim": "data", "max_bytes": 100 * GIB, "storage_class": class_}

    above = await refused(GrowVolume, mine, **params, size_bytes=5 * GIB)
    below = await refused(GrowVolume, mine, **params, size_bytes=GIB)
    other = await refused(GrowVolume, mine, **{**params, "storage_class": "other"}, add_bytes=GIB)

    assert "is above the most that is allowed, 4,294,967,296" in above
    assert "a volume never shrinks" in below
    assert f"is of the storage class {class_}, not other" in other


async def test_a_key_that_was_not_there_is_removed_again(mine: Objects) -> None:
    """The undo of a new key is its removal."""
    mine.make("v1", "configmaps", {"metadata": {"name": "app"}, "data": {"OTHER": "x"}})
    action = SetConfigKey(connection(mine, ALLOWS))
    effect = await plan(action, namespace=mine.namespace, config_map="app", key="NEW", value="1")

    result = await action.apply(effect)
    there = mine.see("v1", "configmaps", "app")["data"]
    await action.undo(effect, result)
    await action.close()

    assert there == {"OTHER": "x", "NEW": "1"}
    assert mine.see("v1", "configmaps", "app")["data"] == {"OTHER": "x"}


async def test_an_undo_does_not_overwrite_what_came_later(mine: Objects) -> None:
    """When somebody has set a third value since, the undo leaves it."""
    mine.make("v1", "configmaps", {"metadata": {"name": "app"}, "data": {"LOG_LEVEL": "info"}})
    action = SetConfigKey(connection(mine, ALLOWS))
    effect = await plan(action, namespace=mine.namespace, config_map="app", key="LOG_LEVEL", value="debug")
    result = await action.apply(effect)
    mine.patch("v1", "configmaps", "app", {"data": {"LOG_LEVEL": "trace"}})

    with pytest.raises(Drifted):
        await action.undo(effect, result)
    await action.close()

    assert mine.see("v1", "configmaps", "app")["data"] == {"LOG_LEVEL": "trace"}


async def test_an_immutable_map_and_an_unlisted_key_are_refused(mine: Objects) -> None:
    """Neither is tried on the server."""
    mine.make(
        "v1", "configmaps", {"metadata": {"name": "app"}, "data": {"LOG_LEVEL": "info"}, "immutable": True}
    )

    immutable = await refused(SetConfigKey, mine, config_map="app", key="LOG_LEVEL", value="debug")
    unlisted = await refused(SetConfigKey, mine, config_map="app", key="OTHER", value="debug")

    assert "is immutable" in immutable
    assert "does not allow the key of ConfigMap app OTHER" in unlisted


async def test_a_server_that_is_not_there_changes_nothing(mine: Objects) -> None:
    """When nobody listens, looking fails for now, with a word that says so."""
    away = mine.cluster.kubeconfig_with([], home=mine.namespace, server=f"https://127.0.0.1:{free_port()}")
    action = SetConfigKey(connection(mine, ALLOWS, kubeconfig_file=away))

    with pytest.raises(TemporaryFailure, match="cannot be reached"):
        await plan(action, namespace=mine.namespace, config_map="app", key="LOG_LEVEL", value="debug")
    await action.close()


async def test_a_server_that_hangs_is_given_up(mine: Objects) -> None:
    """When it accepts calls and answers none, looking fails for now, after the connection's own time."""
    action = SetConfigKey(connection(mine, ALLOWS, timeout_seconds=0.5))

    mine.cluster.api_server.freeze()
    try:
        with pytest.raises(TemporaryFailure):
            await plan(action, namespace=mine.namespace, config_map="app", key="LOG_LEVEL", value="debug")
    finally:
        mine.cluster.api_server.thaw()
        await action.close()


def _is_over(mine: Objects, job: str) -> bool:
    conditions = mine.see("batch/v1", "jobs", job)["status"].get("conditions") or ()
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)
