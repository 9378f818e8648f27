"""Redis: typed actions on one database of one server, that a connection allows.

A shared database is never flushed, and no key outside the prefixes that the connection allows is read or deleted.
"""

from remediator.actions.redis.bgsave import BackgroundSave, BackgroundSaveParams
from remediator.actions.redis.connection import Prefix, RedisConnection
from remediator.actions.redis.diagnose import Diagnose, DiagnoseParams
from remediator.actions.redis.flush import FlushDb, FlushDbParams
from remediator.actions.redis.purge import MemoryPurge, MemoryPurgeParams
from remediator.actions.redis.slowlog import SlowLog, SlowLogParams
from remediator.actions.redis.unlink import HEADROOM, Keys, UnlinkPrefix, UnlinkPrefixParams

__all__ = [
    "HEADROOM",
    "BackgroundSave",
    "BackgroundSaveParams",
    "Diagnose",
    "DiagnoseParams",
    "FlushDb",
    "FlushDbParams",
    "Keys",
    "MemoryPurge",
    "MemoryPurgeParams",
    "Prefix",
    "RedisConnection",
    "SlowLog",
    "SlowLogParams",
    "UnlinkPrefix",
    "UnlinkPrefixParams",
]
