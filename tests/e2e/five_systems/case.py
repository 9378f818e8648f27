"""What a case is, and the targets that cases are fed to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.feed import Reading

TARGETS: Mapping[str, Mapping[str, str]] = {
    "brainstem-segmentation": {"system": "brainstem"},
    "pneumonia-detector": {"system": "pneumonia"},
    "photonic-foundry": {"system": "photonic"},
    "openalgebra": {"system": "openalgebra"},
    "learning-rec": {"system": "learning-rec", "namespace": "production"},
    "pushgateway": {"system": "remediator"},
    "alertmanager": {"system": "remediator"},
    "prometheus": {"system": "remediator"},
    "remediator-fed": {"system": "remediator"},
}
"""The targets of the feed by their job, and the labels that prometheus.yml gives each."""


@dataclass(frozen=True)
class Case:
    """One alert: what is fed, the rule and playbook that it must come to, and a part of the plan as people read it.

    `group` is the system that the alerting rule itself names, or `any` where the series name it.
    """

    group: str
    severity: str
    alert: str
    target: str
    rule: str
    playbook: str
    plan: str
    bad: tuple[Reading, ...] = ()
    good: tuple[Reading, ...] = ()
    always: tuple[Reading, ...] = ()
    windows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    system: str = ""

    @property
    def id(self) -> str:
        """As pytest names it."""
        return f"{self.group}-{self.severity}-{self.alert}"

    @property
    def labels(self) -> dict[str, str]:
        """What the firing alert must say of itself."""
        return {"alertname": self.alert, "severity": self.severity, "system": self.system or self.group}
