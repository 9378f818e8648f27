"""The ledger: one SQLite file that knows everything, and can be asked again after a crash. docs/ledger.md."""

from remediator.adapters.ledger.store import SqlLedger
from remediator.adapters.ledger.writer import Stats

__all__ = ["SqlLedger", "Stats"]
