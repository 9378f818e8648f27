"""The ledger's tables, for SQLite now and Postgres next. Times are whole microseconds since 1970, in UTC."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

HEAD: Final = "0001"
"""The migration that ends in this schema. Kept here so that a start with nothing to migrate needs no alembic."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite's row ids are 64 bits wide under the name INTEGER only."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=False),
    Column("received_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False, comment="when the same body came last"),
    Column("count", Integer, nullable=False, comment="how often the same body came"),
    Column("source", Text, nullable=False),
    Column("rejected", Text, nullable=False),
    Column("episodes", LargeBinary, nullable=False, comment="16 bytes for each episode in it"),
    Column("body", LargeBinary, nullable=False),
    Index(None, "last_at"),
)

episodes = Table(
    "episodes",
    metadata,
    Column("episode", String, primary_key=True),
    Column("labels", Text, nullable=False),
    Column("starts_at", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False, comment="the newest notification, to the minute"),
    Column("resolved_at", BigInteger),
)
Index(
    "ix_episodes_open",
    episodes.c.starts_at,
    sqlite_where=text("resolved_at IS NULL"),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("key", String, primary_key=True),
    Column("body", Text, nullable=False, comment="what a rule said when it matched: its ladder and limits"),
)

remediations = Table(
    "remediations",
    metadata,
    Column("id", String, primary_key=True),
    Column("episode", String, ForeignKey("episodes.episode"), nullable=False),
    Column("rule", String, nullable=False),
    Column("system", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("mode", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("reserved_at", BigInteger, comment="when a run was last reserved: what rate limits count"),
    Column("finished_at", BigInteger),
    Column("wake_at", BigInteger),
    Column("version", Integer, nullable=False),
    Column("snapshot", String, ForeignKey("snapshots.key"), nullable=False),
    Column("body", Text, nullable=False),
    Index("uq_remediations_episode_rule", "episode", "rule", unique=True),
    Index(None, "phase", "created_at"),
    Index(None, "created_at"),
)
for _name, _columns in {
    "ix_remediations_runs": (remediations.c.rule, remediations.c.reserved_at),
    "ix_remediations_rest": (remediations.c.rule, remediations.c.subject, remediations.c.finished_at),
}.items():
    Index(
        _name,
        *_columns,
        sqlite_where=text("reserved_at IS NOT NULL"),
    )

claims = Table(
    "claims",
    metadata,
    Column("subject", String, primary_key=True),
    Column("system", String, nullable=False),
    Column("remediation", String, ForeignKey("remediations.id"), nullable=False, unique=True),
    Column("claimed_at", BigInteger, nullable=False),
)

switches = Table(
    "switches",
    metadata,
    Column("name", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    CheckConstraint("name IN ('pause', 'kill')", name="name"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("remediation", String, ForeignKey("remediations.id"), nullable=False),
    Column("kind", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, comment="empty once it is delivered, or replaced by a newer card"),
    Column("sent_at", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Index(None, "remediation"),
)
Index(
    "ix_outbox_due",
    outbox.c.due_at,
    sqlite_where=text("due_at IS NOT NULL"),
)

cards = Table(
    "cards",
    metadata,
    Column("remediation", String, ForeignKey("remediations.id"), primary_key=True),
    Column("ref", Text, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("remediation", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("hash", String, nullable=False),
)
Index(
    "ix_journal_remediation",
    journal.c.remediation,
    journal.c.seq,
    sqlite_where=text("remediation <> ''"),
)
