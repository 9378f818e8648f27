"""Every exception that remediator raises, as a tree.

    RemediatorError
    ├── ConfigError            settings, a rule, a playbook or a recording is wrong; carries findings
    ├── BadPayload             a webhook body that can never work (answered 4xx, kept for inspection)
    ├── LedgerError
    │   ├── LedgerUnavailable  nothing could be written (answered 503; Alertmanager sends again)
    │   └── StaleWrite         somebody else moved this remediation first; load it again
    ├── IllegalTransition      the state machine was given a fact its phase cannot take: a defect of ours
    ├── CannotStart            a person asked for something that the rule does not leave open
    │   └── MayNotStart        and this person may not
    ├── WorldUnavailable       Prometheus or Alertmanager did not answer; the guards fail closed
    ├── DeliveryFailed         a message could not be sent; carries when to try again
    └── ActionError
        ├── NothingSelected    an empty set of subjects; never read as "all"
        ├── Refused            the request is outside what configuration allows
        ├── Drifted            what is there now is not what was planned
        ├── TemporaryFailure   nothing was changed; trying again may work
        ├── PermanentFailure   nothing was changed; trying again cannot work
        └── OutcomeUnknown     it may or may not have happened; re-observe before anything else

A denial by a guard is a verdict, and a refused vote is an answer: neither is an exception.
"""

from __future__ import annotations

from dataclasses import dataclass


class RemediatorError(Exception):
    """The root of the tree."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault in a file: where it stands, what was found, what was expected, how to mend it."""

    file: str
    line: int
    column: int
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message}"


class ConfigError(RemediatorError):
    """Settings, rules, playbooks or a recording are wrong; all findings at once."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("\n".join(str(finding) for finding in findings))


class BadPayload(RemediatorError):
    """A webhook body that can never work, with the reason."""


class LedgerError(RemediatorError):
    """The ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """Nothing was written."""


class StaleWrite(LedgerError):
    """The remediation was moved by somebody else since it was loaded."""


class IllegalTransition(RemediatorError):
    """A fact that the remediation's phase cannot take."""


class CannotStart(RemediatorError):
    """A rule cannot be started so on demand, in words for the one who asked."""


class MayNotStart(CannotStart):
    """This person may not start it."""


class WorldUnavailable(RemediatorError):
    """Prometheus or Alertmanager did not answer."""


class DeliveryFailed(RemediatorError):
    """A message was not delivered; `retry_after` is in seconds where the receiver named it."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ActionError(RemediatorError):
    """An action could not observe, plan, apply or undo."""


class NothingSelected(ActionError):
    """The selection is empty; an empty set never means "all"."""


class Refused(ActionError):
    """The request is outside what the connection or the playbook allows."""


class Drifted(ActionError):
    """What is there now is not what was planned; nothing was changed."""


class TemporaryFailure(ActionError):
    """Nothing was changed and another try may work."""


class PermanentFailure(ActionError):
    """Nothing was changed and another try cannot work."""


class OutcomeUnknown(ActionError):
    """It may or may not have happened."""
