"""S3: typed actions on the buckets and prefixes that a connection allows. Every listing reads all its pages.

No object is ever deleted or overwritten without a version that keeps it.
"""

from remediator.actions.s3.connection import Bucket, S3Connection
from remediator.actions.s3.glacier import RestoreFromGlacier, RestoreFromGlacierParams
from remediator.actions.s3.lifecycle import PutLifecycle, PutLifecycleParams
from remediator.actions.s3.sync import SyncAside, SyncAsideParams
from remediator.actions.s3.upload import Upload, UploadParams
from remediator.actions.s3.versions import RestoreVersion, RestoreVersionParams

__all__ = [
    "Bucket",
    "PutLifecycle",
    "PutLifecycleParams",
    "RestoreFromGlacier",
    "RestoreFromGlacierParams",
    "RestoreVersion",
    "RestoreVersionParams",
    "S3Connection",
    "SyncAside",
    "SyncAsideParams",
    "Upload",
    "UploadParams",
]
