"""What the connections of the shipped rules lead to in a test: folders, a database, and the test's own servers."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from psycopg import sql

from tests.support.postgres import PostgresServer

BLOCK_BYTES = 25 * 4096
DAY = 86400

EVENTS = """
CREATE ROLE admin NOLOGIN;
CREATE ROLE remediator LOGIN PASSWORD 'open-sesame' IN ROLE admin;
GRANT CREATE, USAGE ON SCHEMA public TO admin;
CREATE TABLE public.events (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE public.events OWNER TO admin;
"""


def _database(folder: Path, postgres: PostgresServer) -> dict[str, Any]:
    """The table of events, partitioned by month, without a partition: who is allowed what is as the rules say."""
    postgres.run(sql.SQL("CREATE DATABASE recommendations").format())
    postgres.run(sql.SQL(EVENTS).format(), "recommendations")
    (folder / "pg-password").write_text("open-sesame\n")
    return {
        "dsn": f"postgresql://remediator@127.0.0.1:{postgres.port}/recommendations",
        "password_file": str(folder / "pg-password"),
    }


def _model(folder: Path) -> None:
    """A model that is served, and one backup of it that verifies."""
    (folder / "backups").mkdir(parents=True)
    (folder / "best_model.pth").write_bytes(b"the model that drifts")
    kept = b"the model before it"
    digest = hashlib.sha256(kept).hexdigest()
    name = f"best_model_20260901T020000Z_{digest}.pth"
    (folder / "backups" / name).write_bytes(kept)
    (folder / "backups" / f"{name}.sha256").write_text(f"{digest}  {name}\n")


def _cache(folder: Path) -> None:
    """Nine files of 25 blocks, all two days old: 90 % of a limit of ten."""
    folder.mkdir()
    old = time.time() - 2 * DAY
    for n in range(9):
        (folder / f"volume-{n}.bin").write_bytes(b"x" * BLOCK_BYTES)
        os.utime(folder / f"volume-{n}.bin", (old, old))


def connections(
    folder: Path, prometheus: str, redis: str, postgres: PostgresServer
) -> dict[str, dict[str, dict[str, Any]]]:
    """Where the shipped connections lead to in the test."""
    folder.mkdir()
    _model(folder / "models")
    _cache(folder / "cache")
    (folder / "evidence").mkdir()
    evidence = {"evidence": {"directory": str(folder / "evidence"), "min_free_bytes": 0}}
    host = {
        "roots": {"models": str(folder / "models"), "cache": str(folder / "cache")},
        "caches": {"results": {"folder": {"root": "cache"}, "limit_bytes": 10 * BLOCK_BYTES}},
    }
    return {
        "brainstem": {**evidence, "host": host},
        "pneumonia": evidence,
        "photonic": {**evidence, "redis": {"url": redis}},
        "openalgebra": {**evidence, "figures": {"url": prometheus}},
        "learning-rec": {
            "cache": {"url": redis},
            "figures": {"url": prometheus},
            "database": _database(folder, postgres),
        },
    }
