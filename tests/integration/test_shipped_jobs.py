"""The CronJobs under rules/jobs, as a real API server and the real controllers take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.actions.kubernetes.cronjob import RunCronJob
from tests.support.kubernetes_objects import Objects
from tests.support.kubernetes_use import connection, plan
from tests.support.waiting import until

pytest_plugins = ["tests.support.kubernetes_fixtures"]

RULES = Path(__file__).resolve().parents[2] / "rules"
MANIFESTS = sorted((RULES / "jobs").glob("*.yaml"))


def shipped(manifest: Path, mine: Objects) -> Any:
    """The CronJob, in a namespace of the test's own."""
    found = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    found["metadata"]["namespace"] = mine.namespace
    return found


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
async def test_a_shipped_job_runs_on_demand_and_never_by_itself(manifest: Path, mine: Objects) -> None:
    """The server accepts it, its day never comes, and one plan makes just one job of what it says, which has a pod."""
    made = mine.make("batch/v1", "cronjobs", shipped(manifest, mine))
    name = made["metadata"]["name"]
    account = {
        "metadata": {"name": made["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]}
    }
    mine.make("v1", "serviceaccounts", account)
    action = RunCronJob(connection(mine, {"cron_jobs": [name]}))

    effect = await plan(action, namespace=mine.namespace, cron_job=name)
    await action.apply(effect)
    again = await action.apply(effect)
    await action.close()
    (job,) = mine.all("batch/v1", "jobs")
    pods = until(lambda: mine.all("v1", "pods"), within=30)

    assert not again.changed
    assert effect.after["job"] == job["metadata"]["name"]
    assert (
        made["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == job["spec"]["activeDeadlineSeconds"]
    )
    assert ["registry.example.com/learning-rec-operations@sha256:" + "0" * 64] == [
        container["image"] for pod in pods for container in pod["spec"]["containers"]
    ]
    assert "lastScheduleTime" not in mine.see("batch/v1", "cronjobs", name).get("status", {})


def test_a_connection_allows_each_shipped_job() -> None:
    """What is shipped to be run can be run: the rules' own connection names it."""
    allowed: set[str] = set()
    for path in RULES.glob("*.yml"):
        for one in (yaml.safe_load(path.read_text(encoding="utf-8")).get("connections") or {}).values():
            for namespace in (one.get("namespaces") or {}).values():
                allowed |= set(namespace.get("cron_jobs") or ())
    names = {yaml.safe_load(path.read_text(encoding="utf-8"))["metadata"]["name"] for path in MANIFESTS}

    assert names
    assert set() == names - allowed
