"""Files: typed actions on files of this host, below folders that a connection names.

Parameters choose among the names of the connection and are never paths. No symbolic link is followed on the way to
a folder or at its end, whatever somebody swaps meanwhile, and no content is replaced but in one step.
"""

from remediator.actions.files.archive_logs import ArchiveLogs, ArchiveLogsParams, SeenLogs
from remediator.actions.files.backup import BackupModel, BackupModelParams, SeenModel
from remediator.actions.files.connection import FilesConnection
from remediator.actions.files.env import SeenEnv, SetEnvKey, SetEnvKeyParams
from remediator.actions.files.prune_cache import PruneCache, PruneCacheParams, SeenCache
from remediator.actions.files.prune_versions import PruneVersions, PruneVersionsParams, SeenVersions
from remediator.actions.files.rollback import RollbackModel, RollbackModelParams

__all__ = [
    "ArchiveLogs",
    "ArchiveLogsParams",
    "BackupModel",
    "BackupModelParams",
    "FilesConnection",
    "PruneCache",
    "PruneCacheParams",
    "PruneVersions",
    "PruneVersionsParams",
    "RollbackModel",
    "RollbackModelParams",
    "SeenCache",
    "SeenEnv",
    "SeenLogs",
    "SeenModel",
    "SeenVersions",
    "SetEnvKey",
    "SetEnvKeyParams",
]
