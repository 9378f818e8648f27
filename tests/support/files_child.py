"""One use of a files action, or of evidence.capture, in a process of its own, which may be of another user, or be killed in the middle.

    python -m tests.support.files_child   reads a job from stdin, prints what came of it

The job: kind, connection, params, effect (made by a plan, or null to plan here), limit_bytes (the process is killed
once it writes so much into one file), uid (whose rights it has).
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from remediator.actions import evidence, files
from remediator.domain.plans import Effect, Result
from remediator.errors import ActionError
from tests.support.processes import program

ROOT = Path(__file__).resolve().parents[2]


def run_job(job: dict[str, Any], *, container: bool = False) -> subprocess.CompletedProcess[str]:
    """Do a job in a child, and wait for its end.

    In a `container` it is root, sees its own processes only, and may take no lease of others' files.
    """
    confined = [
        *[program("unshare", package="util-linux"), "--pid", "--fork", "--mount-proc"],
        *[program("setpriv", package="util-linux"), "--bounding-set=-lease", "--inh-caps=-lease", "--"],
    ]
    return subprocess.run(
        [*(confined if container else []), sys.executable, "-m", "tests.support.files_child"],
        input=json.dumps(job),
        text=True,
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=120,
    )


async def _use(action: Any, job: dict[str, Any]) -> dict[str, Any]:
    try:
        if job["effect"] is None:
            params = action.Params.model_validate(job["params"])
            (effect,) = action.plan(params, await action.observe(params))
        else:
            effect = Effect(**job["effect"])
        result: Result = await action.apply(effect)
        if job["undo"] and effect.undo:
            await action.undo(effect, result)
    except ActionError as error:
        return {"error": type(error).__name__, "told": str(error)}
    return {"result": asdict(result)}


def main() -> None:
    """Do the job."""
    job = json.load(sys.stdin)
    every: tuple[Any, ...] = (
        files.ArchiveLogs,
        files.BackupModel,
        files.PruneCache,
        files.PruneVersions,
        files.RollbackModel,
        files.SetEnvKey,
        evidence.Capture,
    )
    (cls,) = [cls for cls in every if cls.kind == job["kind"]]
    action = cls(cls.Connection.model_validate(job["connection"]))
    if job["limit_bytes"] is not None:
        # Python ignores the signal; here it has to end the process, in the middle of a write.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit_bytes"], job["limit_bytes"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if job["uid"] is not None:
        os.setgroups([])
        os.setgid(job["uid"])
        os.setuid(job["uid"])
    json.dump(asyncio.run(_use(action, job)), sys.stdout)


if __name__ == "__main__":
    main()
