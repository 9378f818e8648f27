"""Load by wrk, from a file of bodies; bounded in time and count, on loopback only."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.processes import program

START = datetime(2026, 1, 1, tzinfo=UTC)

SCRIPT = """
local bodies, at = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = {line:match("^(.*)@NUMBER@(.*)$")} end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
-- Every post has bytes of its own, as those of two peers have: nothing is won by having seen the same body before.
request = function()
  at = at + 1
  local parts = bodies[at %% #bodies + 1]
  return wrk.format(nil, "/api/v1/alertmanager", nil, parts[1] .. at .. parts[2])
end
"""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Load:
    """What wrk measured: posts per second, the 99th percentile in seconds, and answers that were not 2xx."""

    posts: float
    p99: float
    errors: int


def alert(n: int, starts_at: datetime = START) -> dict[str, object]:
    """The n-th distinct alert; one in a thousand is one that a rule matches."""
    matched = n % 1000 == 0
    return {
        "status": "firing",
        "labels": {
            "alertname": "Bench" if matched else f"Other{n % 50}",
            "system": "brainstem",
            "severity": "warning",
            "job": "bench",
            "instance": f"host-{n:06}.example:9100",
            "team": "devops",
        },
        "annotations": {"summary": "A summary as long as they usually are, with a figure: 42.0 %"},
        "startsAt": starts_at.isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
        "fingerprint": f"{n:016x}",
    }


def body(alerts: Sequence[dict[str, object]]) -> str:
    """One post."""
    return json.dumps(
        {
            "version": "4",
            "groupKey": '{}:{alertname="Bench"}',
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "remediator",
            "groupLabels": {"alertname": "Bench"},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager-@NUMBER@:9093",
            "alerts": list(alerts),
        }
    )


def write_bodies(path: Path, *, posts: int, alerts: int, first: int = 0) -> Path:
    """A file of posts, each with so many alerts, all distinct."""
    with path.open("w") as file:
        for post in range(posts):
            numbers = range(first + post * alerts, first + (post + 1) * alerts)
            starts_at = START + timedelta(seconds=first)
            file.write(body([alert(n, starts_at) for n in numbers]) + "\n")
    return path


def run(url: str, bodies: Path, *, connections: int, seconds: int, token: str) -> Load:
    """Post the bodies round and round."""
    script = bodies.with_suffix(".lua")
    script.write_text(SCRIPT % (bodies, token))
    command = [
        program("wrk", package="wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        url,
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    posts = re.search(r"Requests/sec:\s+([\d.]+)", told)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", told)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    assert posts is not None, told
    assert p99 is not None, told
    return Load(float(posts[1]), float(p99[1]) * _UNITS[p99[2]], int(bad[1]) if bad else 0)
