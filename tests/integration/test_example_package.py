"""The example of a third party's action: installed as a package, listed, planned and applied by the real pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "remediator-example-action"

RULES = """
system: search
contacts: {{ops: {{name: Operations, email: ops@example.com}}}}
connections:
  triggers: {{kind: example, folder: "{folder}", names: [reindex]}}
defaults: {{approval: {{approvers: [ops]}}, escalate_to: [ops]}}
rules:
  - name: search-index-stale
    match: ['alertname="SearchIndexStale"']
    ladder:
      - {{playbook: touch-file, with: {{connection: triggers, name: "{name}"}}, mode: approve}}
    verify: {{expr: "search_index_age_seconds < 3600"}}
"""


def run(path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A Python process that finds what is installed in `path` beside everything else."""
    paths = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, *argv],
        cwd=path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the example in."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    done = run(target, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE))
    assert 0 == done.returncode, done.stderr
    return target


def rules(folder: Path, *, name: str = "reindex") -> tuple[Path, Path]:
    """A folder of rules that bind the example's playbook, and the folder of files that they allow."""
    triggers, written = folder / "triggers", folder / "rules"
    triggers.mkdir()
    written.mkdir()
    (written / "search.yml").write_text(RULES.format(folder=triggers, name=name))
    return written, triggers


def test_it_is_found_once_it_is_installed(installed: Path, tmp_path: Path) -> None:
    """`remediator actions` lists it by its entry point alone; without the package it is not there."""
    with_it = run(installed, "-m", "remediator", "actions", "--format", "json")
    without = run(tmp_path, "-m", "remediator", "actions", "--format", "json")

    assert (0, 0) == (with_it.returncode, without.returncode), with_it.stderr + without.stderr
    kinds, others = (
        {one["kind"] for one in json.loads(done.stdout)["actions"]} for done in (with_it, without)
    )
    assert {"example.touch"} == kinds - others


def test_it_is_told_in_full(installed: Path) -> None:
    """Its parameters, its connection and its undo are told from its models and docstrings."""
    told = run(installed, "-m", "remediator", "actions", "example.touch").stdout

    for part in (
        "### `example.touch`",
        "`name`",
        "Connection `example`",
        "refused where somebody touched it",
    ):
        assert part in told


@pytest.mark.parametrize("there", [True, False], ids=["touched", "made"])
def test_a_playbook_plans_and_applies_it(installed: Path, tmp_path: Path, there: bool) -> None:
    """From the alert over the vote to the changed file, and to the verified end."""
    book, triggers = rules(tmp_path)
    file = triggers / "reindex"
    if there:
        file.write_text("kept")
        os.utime(file, (1, 1))
    done = run(
        installed, str(EXAMPLE / "try_it.py"), str(book), str(EXAMPLE / "playbooks"), "SearchIndexStale"
    )

    assert 0 == done.returncode, done.stderr
    lines = done.stdout.splitlines()
    assert f"plan: {'touch' if there else 'make'} {file}" in lines
    assert "step 1 done: touched reindex" in lines
    assert [line for line in lines if line.startswith("REMEDIATED")], done.stdout
    assert file.stat().st_mtime > 1
    assert ("kept" if there else "") == file.read_text()


def test_what_the_connection_does_not_name_is_refused(installed: Path, tmp_path: Path) -> None:
    """Another name, and a link under the allowed one, end before anything is changed."""
    book, triggers = rules(tmp_path, name="other")
    refused = run(
        installed, str(EXAMPLE / "try_it.py"), str(book), str(EXAMPLE / "playbooks"), "SearchIndexStale"
    )

    assert 0 == refused.returncode, refused.stderr
    assert "not among the files" in refused.stdout
    assert [] == list(triggers.iterdir())


def test_its_privilege_is_told(installed: Path, tmp_path: Path) -> None:
    """`remediator permissions` asks a third party's action like any other."""
    book, triggers = rules(tmp_path)
    config = tmp_path / "remediator.yml"
    config.write_text(json.dumps({"paths": {"rules": str(book), "playbooks": str(EXAMPLE / "playbooks")}}))
    done = run(installed, "-m", "remediator", "permissions", "--all", "--config", str(config))

    assert 0 == done.returncode, done.stderr
    assert f"# search-index-stale -> touch-file -> touch (approve)\nrw {triggers}/\n" in done.stdout
