"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False, comment="when the same body came last"),
        sa.Column("count", sa.Integer(), nullable=False, comment="how often the same body came"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("rejected", sa.Text(), nullable=False),
        sa.Column("episodes", sa.LargeBinary(), nullable=False, comment="16 bytes for each episode in it"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_last_at"), "deliveries", ["last_at"], unique=False)
    op.create_table(
        "episodes",
        sa.Column("episode", sa.String(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "received_at", sa.BigInteger(), nullable=False, comment="the newest notification, to the minute"
        ),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("episode", name=op.f("pk_episodes")),
    )
    op.create_index(
        "ix_episodes_open",
        "episodes",
        ["starts_at"],
        unique=False,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "journal",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("remediation", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_journal")),
    )
    op.create_index(
        "ix_journal_remediation",
        "journal",
        ["remediation", "seq"],
        unique=False,
        sqlite_where=sa.text("remediation <> ''"),
        postgresql_where=sa.text("remediation <> ''"),
    )
    op.create_table(
        "snapshots",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column(
            "body",
            sa.Text(),
            nullable=False,
            comment="what a rule said when it matched: its ladder and limits",
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_snapshots")),
    )
    op.create_table(
        "switches",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("name IN ('pause', 'kill')", name=op.f("ck_switches_name")),
        sa.PrimaryKeyConstraint("name", "scope", name=op.f("pk_switches")),
    )
    op.create_table(
        "remediations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("episode", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "reserved_at",
            sa.BigInteger(),
            nullable=True,
            comment="when a run was last reserved: what rate limits count",
        ),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("snapshot", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["episode"], ["episodes.episode"], name=op.f("fk_remediations_episode")),
        sa.ForeignKeyConstraint(["snapshot"], ["snapshots.key"], name=op.f("fk_remediations_snapshot")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_remediations")),
    )
    op.create_index(op.f("ix_remediations_created_at"), "remediations", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_remediations_phase_created_at"), "remediations", ["phase", "created_at"], unique=False
    )
    op.create_index(
        "ix_remediations_rest",
        "remediations",
        ["rule", "subject", "finished_at"],
        unique=False,
        sqlite_where=sa.text("reserved_at IS NOT NULL"),
        postgresql_where=sa.text("reserved_at IS NOT NULL"),
    )
    op.create_index(
        "ix_remediations_runs",
        "remediations",
        ["rule", "reserved_at"],
        unique=False,
        sqlite_where=sa.text("reserved_at IS NOT NULL"),
        postgresql_where=sa.text("reserved_at IS NOT NULL"),
    )
    op.create_index("uq_remediations_episode_rule", "remediations", ["episode", "rule"], unique=True)
    op.create_table(
        "cards",
        sa.Column("remediation", sa.String(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["remediation"], ["remediations.id"], name=op.f("fk_cards_remediation")),
        sa.PrimaryKeyConstraint("remediation", name=op.f("pk_cards")),
    )
    op.create_table(
        "claims",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("remediation", sa.String(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["remediation"], ["remediations.id"], name=op.f("fk_claims_remediation")),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_claims")),
        sa.UniqueConstraint("remediation", name=op.f("uq_claims_remediation")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("remediation", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "due_at",
            sa.BigInteger(),
            nullable=True,
            comment="empty once it is delivered, or replaced by a newer card",
        ),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["remediation"], ["remediations.id"], name=op.f("fk_outbox_remediation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_outbox_remediation"), "outbox", ["remediation"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_outbox_remediation"), table_name="outbox")
    op.drop_index(
        "ix_outbox_due",
        table_name="outbox",
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.drop_table("outbox")
    op.drop_table("claims")
    op.drop_table("cards")
    op.drop_index("uq_remediations_episode_rule", table_name="remediations")
    op.drop_index(
        "ix_remediations_runs",
        table_name="remediations",
        sqlite_where=sa.text("reserved_at IS NOT NULL"),
        postgresql_where=sa.text("reserved_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_remediations_rest",
        table_name="remediations",
        sqlite_where=sa.text("reserved_at IS NOT NULL"),
        postgresql_where=sa.text("reserved_at IS NOT NULL"),
    )
    op.drop_index(op.f("ix_remediations_phase_created_at"), table_name="remediations")
    op.drop_index(op.f("ix_remediations_created_at"), table_name="remediations")
    op.drop_table("remediations")
    op.drop_table("switches")
    op.drop_table("snapshots")
    op.drop_index(
        "ix_journal_remediation",
        table_name="journal",
        sqlite_where=sa.text("remediation <> ''"),
        postgresql_where=sa.text("remediation <> ''"),
    )
    op.drop_table("journal")
    op.drop_index(
        "ix_episodes_open",
        table_name="episodes",
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.drop_table("episodes")
    op.drop_index(op.f("ix_deliveries_last_at"), table_name="deliveries")
    op.drop_table("deliveries")
