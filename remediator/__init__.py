"""Remediator: Alertmanager-driven auto-remediation that people trust with production."""

__version__ = "0.1.0"
