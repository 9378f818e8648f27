"""kubernetes.run_cronjob: one run of a CronJob now, under a name that can be made only once."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from remediator.actions.kubernetes.cluster import Conflict, Gone, Object
from remediator.actions.kubernetes.connection import KubernetesAction, Name, allowed, rule
from remediator.actions.kubernetes.workloads import must_hold, owned_by
from remediator.domain.plans import Effect, Progress, Result
from remediator.errors import Drifted, NothingSelected, Refused
from remediator.pipeline.ports import Permissions

CRON_JOB = "/apis/batch/v1/namespaces/{namespace}/cronjobs/{name}"
JOBS = "/apis/batch/v1/namespaces/{namespace}/jobs"
JOB = "/apis/batch/v1/namespaces/{namespace}/jobs/{name}"

_LONGEST_NAME = 63
"""A job's name is a label of its pods."""


class RunCronJobParams(BaseModel):
    """Parameters of `kubernetes.run_cronjob`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str
    namespace: Name = Field(description="one of the connection's namespaces")
    cron_job: Name = Field(description="one of the namespace's CronJobs that the connection allows")
    keep_seconds: int = Field(
        default=86_400,
        ge=3600,
        le=2_592_000,
        description="how long the finished job is kept; while it is there, the same plan makes no second one",
    )


@dataclass(frozen=True, slots=True)
class Job:
    """A job that the CronJob owns."""

    name: str
    uid: str
    created_at: str
    active: bool


@dataclass(frozen=True, slots=True)
class SeenCronJob:
    """A CronJob as it was seen, None where there is none, and its jobs, the newest first."""

    object: Object | None
    jobs: tuple[Job, ...]


class RunCronJob(KubernetesAction):
    """Make one job from a CronJob's template; refused while a job of it is active or the CronJob is suspended."""

    kind: ClassVar[str] = "kubernetes.run_cronjob"
    idempotent: ClassVar[bool] = True
    Params: ClassVar[type[BaseModel]] = RunCronJobParams

    async def observe(self, params: RunCronJobParams) -> SeenCronJob:
        """Read the CronJob and its jobs."""
        self._check(params)
        found = await self._cluster.get(CRON_JOB, namespace=params.namespace, name=params.cron_job)
        if found is None:
            return SeenCronJob(None, ())
        every = await self._cluster.every(JOBS, namespace=params.namespace)
        mine = [_job(one) for one in every if owned_by(one, found["metadata"]["uid"])]
        return SeenCronJob(
            found, tuple(sorted(mine, key=lambda job: (job.created_at, job.name), reverse=True))
        )

    def plan(self, params: RunCronJobParams, seen: SeenCronJob) -> tuple[Effect, ...]:
        """One effect: a job of exactly this name."""
        subject = f"CronJob/{params.cron_job} in {params.namespace}"
        if seen.object is None:
            raise NothingSelected(f"there is no {subject}")
        if seen.object["spec"].get("suspend"):
            raise Refused(f"{subject} is suspended")
        running = [job.name for job in seen.jobs if job.active]
        if running:
            raise Refused(f"{subject} has a job running: {', '.join(running)}")
        succeeded = (seen.object.get("status") or {}).get("lastSuccessfulTime") or "never"
        name = _name(params.cron_job, seen)
        return (
            Effect(
                action=self.kind,
                subject=subject,
                params=params.model_dump(mode="json"),
                summary=f"run {subject} once now, as job {name} (it last succeeded: {succeeded})",
                before=_pins(seen.object),
                after={"job": name},
                figures={"jobs": 1},
                undo=f"stop and delete the job {name}; what it has done stays done",
            ),
        )

    async def apply(self, effect: Effect) -> Result:
        """Create the job, unless it is there."""
        params = RunCronJobParams.model_validate(effect.params)
        name = effect.after["job"]
        seen = await self.observe(params)
        mine = next((job for job in seen.jobs if job.name == name), None)
        if mine is not None:
            return _exists(mine)
        if seen.object is None:
            raise Gone(f"there is no {effect.subject} any more")
        must_hold(effect.subject, effect.before, _pins(seen.object))
        running = [job.name for job in seen.jobs if job.active]
        if running:
            raise Drifted(f"{effect.subject} has a job running by now: {', '.join(running)}")
        body = _body(seen.object, name, params.keep_seconds)
        try:
            made = await self._cluster.create(JOBS, body, namespace=params.namespace)
        except Conflict:
            # Made between our look and our call: ours, or one that somebody gave the same name.
            mine = next((job for job in (await self.observe(params)).jobs if job.name == name), None)
            if mine is None:
                raise
            return _exists(mine)
        return Result(
            f"made the job {name}", evidence={"job": name}, captured={"job_uid": made["metadata"]["uid"]}
        )

    async def undo(self, effect: Effect, result: Result) -> Result:
        """Stop and delete exactly the job that was made."""
        params = RunCronJobParams.model_validate(effect.params)
        self._check(params)
        name, uid = effect.after["job"], result.captured.get("job_uid")
        if not uid:
            raise Refused(f"it is not known which job {name} was made, so none is deleted")
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._cluster.delete(JOB, body, namespace=params.namespace, name=name)
        except Gone:
            return Result(f"the job {name} is gone already", changed=False)
        return Result(f"deleted the job {name}")

    def progress(self, effect: Effect, seen: SeenCronJob) -> Progress:
        """Done where the job of that name is there."""
        if any(job.name == effect.after["job"] for job in seen.jobs):
            return Progress.DONE
        if seen.object is None or _pins(seen.object) != dict(effect.before):
            return Progress.UNCLEAR
        return Progress.UNTOUCHED

    def permissions(self, params: RunCronJobParams) -> Permissions:
        """Reading the CronJob, and the jobs of its namespace: RBAC cannot name one that is not made yet."""
        where = params.namespace
        return Permissions(
            kubernetes=(
                rule("batch", "cronjobs", "get", namespace=where, names=(params.cron_job,)),
                rule("batch", "jobs", "list create delete", namespace=where),
            )
        )

    def _check(self, params: RunCronJobParams) -> None:
        allowed(params.cron_job, "CronJob", self._connection.namespace(params.namespace).cron_jobs)


def _job(object_: Object) -> Job:
    conditions = (object_.get("status") or {}).get("conditions") or ()
    over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
    meta = object_["metadata"]
    return Job(meta["name"], meta["uid"], meta["creationTimestamp"], active=not over)


def _pins(cron_job: Object) -> dict[str, str | None]:
    """What must still hold: the same CronJob with the same job, and no success since."""
    template = json.dumps(cron_job["spec"]["jobTemplate"], sort_keys=True)
    return {
        "uid": cron_job["metadata"]["uid"],
        "job_template": hashlib.sha256(template.encode()).hexdigest(),
        "last_successful_time": (cron_job.get("status") or {}).get("lastSuccessfulTime"),
    }


def _name(cron_job: str, seen: SeenCronJob) -> str:
    """The same for the same plan; another one as soon as a job was made after it."""
    assert seen.object is not None
    newest = seen.jobs[0].uid if seen.jobs else ""
    seed = json.dumps([_pins(seen.object), newest], sort_keys=True)
    suffix = f"-rerun-{hashlib.sha256(seed.encode()).hexdigest()[:10]}"
    return cron_job[: _LONGEST_NAME - len(suffix)].rstrip("-.") + suffix


def _exists(job: Job) -> Result:
    return Result(f"the job {job.name} was made already", changed=False, captured={"job_uid": job.uid})


def _body(cron_job: Object, name: str, keep_seconds: int) -> Object:
    template = cron_job["spec"]["jobTemplate"]
    meta: Mapping[str, Any] = template.get("metadata") or {}
    annotations = {**(meta.get("annotations") or {}), "cronjob.kubernetes.io/instantiate": "manual"}
    spec = copy.deepcopy(dict(template["spec"]))
    spec["ttlSecondsAfterFinished"] = keep_seconds
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": cron_job["metadata"]["name"],
        "uid": cron_job["metadata"]["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": dict(meta.get("labels") or {}),
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    }
