"""The prepared units of rules/units: named by rules, without a shell, and recorded only after success."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import program

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "rules" / "units"
RECORD = UNITS / "record_success.py"
SYSTEMS = ("brainstem", "openalgebra", "photonic", "pneumonia")
SHELLS = re.compile(r"(^|[ /])(ba|da|z|k)?sh( |$)|[`|&<>$]|%")
TASK = 'ops_task_last_success_timestamp_seconds{system="photonic",task="log-cleanup-daily-0200"} '


@cache
def documents() -> tuple[Any, ...]:
    """The rule files of the systems whose units are shipped."""
    files = [ROOT / "rules" / f"{system}.yml" for system in SYSTEMS]
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)


def keys(path: Path, key: str) -> list[str]:
    """All values of one key of a unit file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"{key}=") for line in lines if line.startswith(f"{key}=")]


def chosen(value: Any) -> list[Any]:
    """All that an argument of a rule may be: itself, or what a label chooses among."""
    return list(value["among"].values()) if isinstance(value, dict) else [value]


@cache
def waits() -> dict[str, int]:
    """How long the shortest step waits for each unit, in seconds."""
    found: dict[str, int] = {}
    rungs = [
        rung for document in documents() for rule in document["rules"] for rung in rule.get("ladder", ())
    ]
    for rung in rungs:
        text = (ROOT / "playbooks" / f"{rung['playbook']}.yml").read_text(encoding="utf-8")
        playbook = yaml.safe_load(text)
        values = {name: row.get("default") for name, row in playbook.get("parameters", {}).items()}
        values |= rung.get("with", {})
        for step in playbook.get("steps", ()):
            if step["action"] == "systemd.start" and "ready_seconds" in step["with"]:
                wait = step["with"]["ready_seconds"]
                limit = values[wait.removeprefix("$")] if isinstance(wait, str) else wait
                for unit in chosen(values[step["with"]["unit"].removeprefix("$")]):
                    found[unit] = min(limit, found.get(unit, limit))
    return found


@cache
def run_again() -> frozenset[str]:
    """The units that `run-unit` starts, each as often as it is due."""
    rungs = [
        rung for document in documents() for rule in document["rules"] for rung in rule.get("ladder", ())
    ]
    given = [rung["with"]["unit"] for rung in rungs if rung["playbook"] == "run-unit"]
    return frozenset(unit for one in given for unit in chosen(one))


def seconds(span: str) -> int:
    """A time of systemd, of one unit."""
    number, unit = re.fullmatch(r"(\d+)(s|min|h)", span).groups()  # type: ignore[union-attr]  # it has to match
    return int(number) * {"s": 1, "min": 60, "h": 3600}[unit]


EACH = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in sorted(UNITS.glob("*.service"))]
)


def test_every_named_unit_is_shipped_and_no_other() -> None:
    """What the connections allow is what is here; and each is started by some rule or procedure."""
    connections = [one for document in documents() for one in document["connections"].values()]
    allowed = {unit for one in connections if one["kind"] == "systemd" for unit in one["units"]}
    procedures = [ROOT / "prometheus" / "procedures" / f"{system}.yml" for system in SYSTEMS]
    started = yaml.safe_dump([document["rules"] for document in documents()])
    started += "".join(path.read_text(encoding="utf-8") for path in procedures)
    shipped = {path.name for path in UNITS.glob("*.service") if path.name.startswith(SYSTEMS)}

    assert allowed == shipped
    assert not [unit for unit in sorted(shipped) if unit not in started]


@EACH
def test_a_unit_has_no_shell_and_is_bounded(path: Path) -> None:
    """Whole paths, written out; a missing program is a failure; nothing runs for ever, or longer than it is awaited."""
    commands = keys(path, "ExecStart")
    (kind,) = keys(path, "Type")
    (limit,) = keys(path, {"oneshot": "TimeoutStartSec", "exec": "RuntimeMaxSec"}[kind])

    assert commands
    for command in [*commands, *keys(path, "ExecStopPost")]:
        assert not SHELLS.search(command), command
        assert command.split()[0] in keys(path, "AssertFileIsExecutable")
    # What stays active is a state, such as a fence: it could not be run again.
    assert not (keys(path, "RemainAfterExit") and path.name in run_again())
    assert "Condition" not in path.read_text(encoding="utf-8")
    assert ["strict"] == keys(path, "ProtectSystem")
    if kind == "oneshot":
        assert seconds(limit) < waits().get(path.name, 1800)


@EACH
def test_a_record_comes_last_and_names_rows_of_the_tables(path: Path) -> None:
    """Success is recorded after all else, under names that the tables or a rule read."""
    commands = [*keys(path, "ExecStart"), *keys(path, "ExecStopPost")]
    records = [command for command in commands if RECORD.name in command]
    known = (ROOT / "prometheus/rules/20-tables.yml").read_text(encoding="utf-8")
    known += "".join((ROOT / "rules" / f"{system}.yml").read_text(encoding="utf-8") for system in SYSTEMS)

    assert records in ([], commands[-1:])
    for record in records:
        system = record.split()[2]
        named = re.findall(r"--(?:task|data) (\S+)", record)
        assert path.name.startswith(f"{system}-")
        assert named
        for name in named:
            assert re.search(rf"[ \"]{re.escape(name)}[,}}\"]", known), name


def record(folder: Path, *arguments: str, result: str = "") -> subprocess.CompletedProcess[str]:
    """Run the program as systemd does; `result` is how the unit went, told only in ExecStopPost."""
    env = {**os.environ, **({"SERVICE_RESULT": result} if result else {})}
    argv = [sys.executable, str(RECORD), str(folder), *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=30)


def test_success_is_recorded_whole(tmp_path: Path) -> None:
    """One file for each task and data set, with the present time, readable by the collector, nothing left beside it."""
    before = time.time()
    for _ in range(2):
        done = record(tmp_path, "photonic", "--task", "log-cleanup-daily-0200", "--data", "redis")

        assert (0, "") == (done.returncode, done.stderr)
    names = sorted(path.name for path in tmp_path.iterdir())
    (line,) = [
        line
        for line in (tmp_path / "photonic-task-log-cleanup-daily-0200.prom").read_text().splitlines()
        if not line.startswith("#")
    ]

    assert ["photonic-data-redis.prom", "photonic-task-log-cleanup-daily-0200.prom"] == names
    assert line.startswith(TASK)
    assert before - 0.001 <= float(line.removeprefix(TASK)) <= time.time()
    assert 0o644 == (tmp_path / names[0]).stat().st_mode & 0o777


def test_a_failure_is_not_recorded(tmp_path: Path) -> None:
    """In ExecStopPost systemd says how the unit went: anything but success leaves the old record as it is."""
    record(tmp_path, "photonic", "--task", "backup")
    kept = (tmp_path / "photonic-task-backup.prom").read_bytes()
    for result in ("exit-code", "timeout", "signal"):
        done = record(tmp_path, "photonic", "--task", "backup", result=result)

        assert f"not recorded: the unit ended with {result}\n" == done.stderr
    assert kept == (tmp_path / "photonic-task-backup.prom").read_bytes()
    assert 0 == record(tmp_path, "photonic", "--task", "backup", result="success").returncode
    assert kept != (tmp_path / "photonic-task-backup.prom").read_bytes()


@pytest.mark.parametrize("name", ["../evil", 'a"} 1\nb{c="', "A", "", "a/b", "-a"])
def test_a_hostile_name_is_refused(name: str, tmp_path: Path) -> None:
    """A name that would leave the folder or the label is refused, and nothing is written."""
    done = record(tmp_path, "photonic", f"--task={name}")

    assert 2 == done.returncode
    assert [] == list(tmp_path.iterdir())


def test_the_cleanup_removes_only_what_it_may(tmp_path: Path) -> None:
    """The shipped find, on a folder of ours: fresh, open, foreign and linked files stay."""
    (command,) = [
        c for c in keys(UNITS / "photonic-log-cleanup.service", "ExecStart") if c.startswith("/usr/bin/find")
    ]
    argv = [word.removeprefix("\\") for word in command.split()]
    argv[argv.index("/tmp")] = str(tmp_path)
    argv[argv.index("/usr/bin/fuser")] = program("fuser", package="psmisc")
    argv[argv.index("-user") + 1] = str(os.getuid())
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    old = time.time() - 50 * 3600
    gone, fresh, held, other = (tmp_path / n for n in ("photonic_a", "photonic_b", "photonic_c", "else_d"))
    for path in (gone, fresh, held, other, outside / "photonic_e"):
        path.write_text("x", encoding="utf-8")
        if path != fresh:
            os.utime(path, (old, old))
    (tmp_path / "photonic_link").symlink_to(outside)
    with held.open("rb"):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    assert (0, f"{gone}\n") == (done.returncode, done.stdout)
    assert ["else_d", "photonic_b", "photonic_c", "photonic_link"] == sorted(
        p.name for p in tmp_path.iterdir()
    )
    assert (outside / "photonic_e").exists()
