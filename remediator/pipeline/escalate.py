"""Escalate and tell: which messages follow from a transition. They are sent from the outbox, after the commit."""

from __future__ import annotations

from remediator.domain.remediations import Phase, Remediation, Transition
from remediator.pipeline.ports import Message

_NOT_WORTH_A_CARD = frozenset({Phase.MATCHED, Phase.JUDGED, Phase.APPROVED})


def messages(before: Remediation, transition: Transition) -> tuple[Message, ...]:
    """A card where something changed that people want to see, and a call where they have to take over."""
    after = transition.after
    told: list[Message] = []
    if after.phase is Phase.ESCALATING and before.phase is not Phase.ESCALATING:
        evidence = [result.summary for result in after.results]
        told.append(
            Message(
                "escalation",
                {
                    "outcome": after.outcome.value if after.outcome else "",
                    "reason": after.reason,
                    "to": list(after.escalate_to),
                    "evidence": evidence,
                },
            )
        )
    changed = after.phase is not before.phase or after.agreed != before.agreed or after.step != before.step
    held = after.phase is Phase.MATCHED and after.reason != before.reason
    # What resolved before anybody was asked is no news.
    silent = after.phase is Phase.RESOLVED_ITSELF and before.plan is None
    if held or (changed and after.phase not in _NOT_WORTH_A_CARD and not silent):
        told.append(Message("card"))
    return tuple(told)
