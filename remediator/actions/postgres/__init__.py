"""PostgreSQL: typed actions on one database, that a connection allows; every statement is bounded.

Maintenance is done as the role that owns the tables. A partition goes only after its archive was proved.
"""

from remediator.actions.postgres.connection import PostgresConnection
from remediator.actions.postgres.create import CreatePartition, CreatePartitionParams
from remediator.actions.postgres.detach import DetachPartition, DetachPartitionParams
from remediator.actions.postgres.diagnose import DiagnosePostgres, DiagnosePostgresParams
from remediator.actions.postgres.drop import DropPartition, DropPartitionParams
from remediator.actions.postgres.dump import Dump, DumpParams
from remediator.actions.postgres.reindex import ReindexConcurrently, ReindexParams
from remediator.actions.postgres.terminate import TerminateIdle, TerminateIdleParams
from remediator.actions.postgres.vacuum import VacuumAnalyze, VacuumAnalyzeParams

__all__ = [
    "CreatePartition",
    "CreatePartitionParams",
    "DetachPartition",
    "DetachPartitionParams",
    "DiagnosePostgres",
    "DiagnosePostgresParams",
    "DropPartition",
    "DropPartitionParams",
    "Dump",
    "DumpParams",
    "PostgresConnection",
    "ReindexConcurrently",
    "ReindexParams",
    "TerminateIdle",
    "TerminateIdleParams",
    "VacuumAnalyze",
    "VacuumAnalyzeParams",
]
