"""The gates that Prometheus is asked before a playbook acts: open where they should be, and closed otherwise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.processes import program

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
DAY = 86_400
AT = 2 * DAY
"""Seconds after promtool's beginning of time at which a gate is asked."""

ACTIVE = "kube_cronjob_status_active"
INDEX = 'alias="content_embeddings",dim="{dim}",id_max_length="{id}",index_type="{type}",metric_type="L2",nlist="128"'


@dataclass(frozen=True)
class Case:
    """A gate of a playbook; series with their value now, by which it opens, and by which it is closed."""

    playbook: str
    gate: str
    opens: Mapping[str, float]
    closed: Mapping[str, float]

    @property
    def id(self) -> str:
        """As pytest names it."""
        return f"{self.playbook}-{self.gate}"


def index(dim: int = 128, id_: int = 64, type_: str = "IVF_FLAT") -> str:
    """What the job that builds the index publishes."""
    return "learning_rec_vector_index_info{" + INDEX.format(dim=dim, id=id_, type=type_) + "}"


def job(name: str) -> str:
    """kube-state-metrics' count of a CronJob's running jobs."""
    return f'{ACTIVE}{{namespace="production",cronjob="{name}"}}'


SNAPSHOT = 'learning_rec_rds_snapshot_completed_timestamp_seconds{kind="manual"}'
REPLICASET = 'kube_replicaset_created{{namespace="staging",replicaset="fastapi-gateway-{}"}}'
ALIAS = 'learning_rec_milvus_alias_target{{alias="content_embeddings",{}="{}"}}'
REDIS = 'redis_memory_max_bytes{namespace="production"}'
RECOVERY = 'ops_recovery_started_timestamp_seconds{{system="pneumonia",scope="{}"}}'
POSTGRES = "openalgebra:postgres_up:min"

CASES = (
    Case(
        "fail-over-site",
        "all-probes-down",
        {"openalgebra:service_up:max": 0},
        {"openalgebra:service_up:max": 1},
    ),
    Case("grow-database-storage", "lr-snapshot-taken", {SNAPSHOT: AT - 14_399}, {SNAPSHOT: AT - 14_400}),
    Case(
        "grow-database-storage",
        "below-max-safe",
        {"learning_rec:rds_allocated_gib:max": 499.9},
        {"learning_rec:rds_allocated_gib:max": 500},
    ),
    Case(
        "promote-patched-image",
        "lr-staging-24h",
        {REPLICASET.format("a"): AT - DAY},
        {REPLICASET.format("a"): AT - DAY, REPLICASET.format("b"): AT - DAY + 1},
    ),
    Case(
        "promote-validated-model",
        "no-training-runs",
        {job("train-ranking-model"): 0, job("incremental-index-update"): 1},
        {job("train-ranking-model"): 0, job("train-retrieval-model"): 1},
    ),
    Case("raise-memory-limit", "below-max-safe", {REDIS: 16 * 2**30 - 1}, {REDIS: 16 * 2**30}),
    Case(
        "rebuild-vector-index",
        "serves-by-alias",
        {ALIAS.format("collection", "content_7"): 1},
        {ALIAS.format("collection_name", "content_embeddings"): 1},
    ),
    Case(
        "rebuild-vector-index",
        "no-update-runs",
        {job("incremental-index-update"): 0},
        {job("incremental-index-update"): 1},
    ),
    Case("recover-database-connections", "database-answers", {POSTGRES: 1}, {POSTGRES: 0}),
    Case(
        "rerun-index-update",
        "no-rebuild-runs",
        {job("build-milvus-index"): 0},
        {job("build-milvus-index"): 1},
    ),
    Case("rerun-index-update", "lr-index-dim", {index(): 1}, {index(dim=256): 1}),
    Case("rerun-index-update", "lr-index-schema", {index(): 1}, {index(id_=65): 1}),
    Case("rerun-index-update", "lr-index-params", {index(): 1}, {index(type_="HNSW"): 1}),
    Case(
        "restore-aside",
        "no-recovery-runs",
        {RECOVERY.format("a"): 0},
        {RECOVERY.format("a"): 0, RECOVERY.format("b"): AT},
    ),
    Case("start-database-first", "database-was-down", {POSTGRES: 0}, {POSTGRES: 1}),
    Case(
        "train-model",
        "no-training-runs",
        {job("train-retrieval-model"): 0},
        {job("train-retrieval-model"): 0, job("build-milvus-index"): 1},
    ),
)


def gates() -> Iterator[tuple[str, str, str]]:
    """Every gate that Prometheus answers: playbook, gate, expression."""
    for path in sorted(PLAYBOOKS.glob("*.yml")):
        for gate in yaml.safe_load(path.read_text(encoding="utf-8")).get("gates") or ():
            if "promql" in gate:
                yield path.stem, gate["id"], gate["promql"]


def holds(expression: str, series: Mapping[str, float], folder: Path) -> bool:
    """Whether the expression returns a sample while these series have these values; of a real promtool."""
    rows = [{"series": name, "values": f"{value:.1f}x{AT // 900}"} for name, value in series.items()]
    asked = {"expr": f"count({expression}) or vector(0)", "eval_time": f"{AT}s"}
    told = []
    for answer in (1, 0):
        wanted = {**asked, "exp_samples": [{"labels": "{}", "value": answer}]}
        test = {"interval": "15m", "input_series": rows, "promql_expr_test": [wanted]}
        file = folder / f"{answer}_test.yml"
        file.write_text(yaml.safe_dump({"evaluation_interval": "15m", "tests": [test]}), encoding="utf-8")
        argv = [program("promtool", package="prometheus"), "test", "rules", str(file)]
        told.append(subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60))
    # One of the two expectations is met, or promtool could not read the expression.
    assert 1 == sum(one.returncode == 0 for one in told), told[0].stdout + told[0].stderr
    return told[0].returncode == 0


EXPRESSIONS = {(playbook, gate): expression for playbook, gate, expression in gates()}


def test_each_gate_has_a_case() -> None:
    """Whoever adds a gate that Prometheus answers shows when it opens and when it does not."""
    assert sorted(EXPRESSIONS) == sorted((case.playbook, case.gate) for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_gate_opens_and_closes(case: Case, tmp_path: Path) -> None:
    """It holds at its boundary, not beyond it, and never where nobody publishes anything."""
    expression = EXPRESSIONS[case.playbook, case.gate]
    seen = []
    for name, series in (("opens", case.opens), ("closed", case.closed), ("silent", {})):
        folder = tmp_path / name
        folder.mkdir()
        seen.append(holds(expression, series, folder))

    assert [True, False, False] == seen
