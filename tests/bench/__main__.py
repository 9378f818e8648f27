"""`make bench`: the service against the floor, both measured in the same run, in turn. Nothing is asserted."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.bench import idle, load
from tests.e2e.stack import ROOT, WEBHOOK_TOKEN, Remediator
from tests.support.ports import free_port
from tests.support.processes import Server, http_answers


class Floor(Server):
    """The floor as a process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            [sys.executable, "-m", "tests.bench.floor", str(self.port), str(folder / "floor.db")],
            name="floor",
            folder=folder,
            ready=lambda: http_answers(f"{self.url}/-/ready"),
            env={"PYTHONPATH": str(ROOT)},
        )


def rules(folder: Path, count: int) -> Path:
    """A rule file with so many rules, of which one matches the bench's alerts."""
    folder.mkdir(parents=True)
    rows = [
        {"name": f"other-{n}", "match": [f'alertname="NotSent{n}"'], "notify": "for the bench"}
        for n in range(count - 1)
    ]
    rows.append(
        {"name": "bench", "match": ['alertname="Bench"'], "subject": "{instance}", "notify": "for the bench"}
    )
    document = {
        "system": "brainstem",
        "contacts": {"devops": {"name": "DevOps", "email": "devops@example.com"}},
        "defaults": {"escalate_to": ["devops"], "approval": {"approvers": ["devops"]}},
        "rules": rows,
    }
    (folder / "brainstem.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def service(folder: Path, count: int = 10) -> Remediator:
    """The service with so many rules; nobody answers for Prometheus, so what is begun is held."""
    closed = f"http://127.0.0.1:{free_port()}"
    return Remediator(
        folder, rules=rules(folder / "rules", count), prometheus=closed, alertmanager=closed, mode="suggest"
    )


def resident(server: Server) -> float:
    """Resident memory in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def in_turn(
    rounds: int, first: Callable[[], load.Load], second: Callable[[], load.Load]
) -> tuple[list[load.Load], list[load.Load]]:
    """A B A B, so that a machine that slows down slows both."""
    a, b = [], []
    for _ in range(rounds):
        a.append(first())
        b.append(second())
    return a, b


def show(name: str, floor: float, ours: float, ratio: float, aim: str) -> None:
    """One line of the table."""
    print(f"| {name} | {floor:,.6g} | {ours:,.6g} | {ratio:.2f} | {aim} |", flush=True)


def median(loads: list[load.Load], what: str) -> float:
    """The median of a figure."""
    return float(statistics.median(getattr(one, what) for one in loads))


def throughput(folder: Path, seconds: int, rounds: int) -> None:
    """Posts with one alert, posts with 64, and the latency of a few connections."""
    one = load.write_bodies(folder / "one.txt", posts=2000, alerts=1)
    many = load.write_bodies(folder / "many.txt", posts=100, alerts=64)
    with Floor(folder / "floor") as floor, service(folder / "ours") as ours:

        def of(url: str, bodies: Path, connections: int) -> Callable[[], load.Load]:
            return lambda: load.run(
                url, bodies, connections=connections, seconds=seconds, token=WEBHOOK_TOKEN
            )

        for name, bodies, connections, what, times, aim in (
            ("posts/s, 1 alert, 128 connections", one, 128, "posts", 1, ">= 0.7"),
            ("alerts/s, 64 a post, 128 connections", many, 128, "posts", 64, ">= 0.7"),
            ("p99 of a post in s, 16 connections", one, 16, "p99", 1, "<= 1.5"),
        ):
            of(floor.url, bodies, connections)()
            of(ours.url, bodies, connections)()
            a, b = in_turn(rounds, of(floor.url, bodies, connections), of(ours.url, bodies, connections))
            assert not any(one.errors for one in (*a, *b)), "not every post was answered 2xx"
            pairs = [getattr(y, what) / getattr(x, what) for x, y in zip(a, b, strict=True)]
            show(name, median(a, what) * times, median(b, what) * times, statistics.median(pairs), aim)
        new = load.write_bodies(folder / "new.txt", posts=2000, alerts=64, first=10_000_000)
        a, b = in_turn(1, of(floor.url, new, 64), of(ours.url, new, 64))
        show(
            "alerts/s, 64 a post, none seen before",
            a[0].posts * 64,
            b[0].posts * 64,
            b[0].posts / a[0].posts,
            "told, not aimed at",
        )


def many_rules(folder: Path, seconds: int, rounds: int) -> None:
    """10,000 rules against 10."""
    folder.mkdir()
    one = load.write_bodies(folder / "one.txt", posts=2000, alerts=1)
    with service(folder / "ten", 10) as ten, service(folder / "thousands", 10_000) as thousands:
        a, b = in_turn(
            rounds,
            lambda: load.run(ten.url, one, connections=128, seconds=seconds, token=WEBHOOK_TOKEN),
            lambda: load.run(thousands.url, one, connections=128, seconds=seconds, token=WEBHOOK_TOKEN),
        )
        pairs = [x.posts / y.posts for x, y in zip(a, b, strict=True)]
        show(
            "cost of a post: 10 rules, 10,000 rules (posts/s)",
            median(a, "posts"),
            median(b, "posts"),
            statistics.median(pairs),
            "<= 1.2",
        )


def memory_and_start(folder: Path) -> None:
    """Resident memory with the shipped rules, at rest and after 100,000 alerts; and the time to the first answer."""
    closed = f"http://127.0.0.1:{free_port()}"
    starts = []
    for n in range(5):
        server = Remediator(
            folder / f"start-{n}",
            rules=ROOT / "rules",
            prometheus=closed,
            alertmanager=closed,
            mode="suggest",
        )
        begun = time.perf_counter()
        with server:
            starts.append(time.perf_counter() - begun)
            at_rest = resident(server)
    show("start to ready, s", 0, statistics.median(starts), 0, "<= 1.5")
    show("resident at rest, MB", 0, at_rest, 0, "<= 110")
    with service(folder / "filled") as ours:
        posts = 100_000 // 64 + 1
        for n in range(posts):
            data = load.body([load.alert(i) for i in range(n * 64, (n + 1) * 64)]).encode()
            headers = {"Authorization": f"Bearer {WEBHOOK_TOKEN}", "Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(ours.webhook, data, headers)) as answer:
                assert 200 == answer.status
        show("resident after 100,000 alerts, MB", 0, resident(ours), 0, "<= 150")


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of each run (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default 3)")
    options = parser.parse_args()
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    print(f"{platform.machine()} {model}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | floor | ours | ratio | aim |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="remediator-bench-") as name:
        folder = Path(name)
        throughput(folder, options.seconds, options.rounds)
        many_rules(folder / "rules", options.seconds, options.rounds)
        memory_and_start(folder / "memory")
        show(
            "post to first action started, ms",
            0,
            asyncio.run(idle.measure(folder / "idle")) * 1000,
            0,
            "<= 25",
        )


if __name__ == "__main__":
    main()
