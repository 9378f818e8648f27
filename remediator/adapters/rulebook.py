"""What the rule files and playbooks say, once all of it is known to be right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import BaseModel

from remediator.domain.playbooks import Playbook
from remediator.domain.rules import RuleTable
from remediator.errors import Finding
from remediator.pipeline.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody to hand over to: a team or a role, and how to reach it."""

    name: str
    slack: str = ""
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class EscalationStep:
    """One level of the documented escalation path; `within` is its response time where one is written."""

    to: str
    within: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A documented maintenance window, as it is written, with the place in the document that names it."""

    when: str
    timezone: str = "UTC"
    source: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """What one rules/<system>.yml says beside its rules.

    `connections` are the named ways to what is acted on, each as the `Connection` model of its kind's actions.
    """

    name: str
    contacts: Mapping[str, Contact] = field(default_factory=dict)
    escalation: tuple[EscalationStep, ...] = ()
    windows: Mapping[str, Window] = field(default_factory=dict)
    connections: Mapping[str, BaseModel] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All rules and playbooks of one load. `files` holds each file's SHA-256, by its path."""

    table: RuleTable
    systems: Mapping[str, System]
    playbooks: Mapping[str, Playbook]
    files: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Finding, ...] = ()
    schedules: tuple[Schedule, ...] = ()

    @property
    def hash(self) -> str:
        """One SHA-256 over all files: two loads of the same rules and playbooks have the same."""
        told = "".join(f"{file}\0{digest}\n" for file, digest in sorted(self.files.items()))
        return hashlib.sha256(told.encode()).hexdigest()
