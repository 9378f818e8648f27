"""Evidence: what logs, statistics and pages say now, redacted and bounded, kept in a directory before anything is done."""

from remediator.actions.evidence.capture import Capture, CaptureParams
from remediator.actions.evidence.connection import EvidenceConnection

__all__ = ["Capture", "CaptureParams", "EvidenceConnection"]
