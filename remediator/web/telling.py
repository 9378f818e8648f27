"""The journal in sentences, and phases in words, for the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from remediator.domain.events import Entry
from remediator.domain.remediations import Phase

Data = Mapping[str, Any]

WORDS: Mapping[Phase, str] = {
    Phase.MATCHED: "held",
    Phase.JUDGED: "planning",
    Phase.AWAITING_APPROVAL: "waiting for a person",
    Phase.APPROVED: "approved",
    Phase.EXECUTING: "executing",
    Phase.VERIFYING: "verifying",
    Phase.UNDOING: "undoing",
    Phase.ESCALATING: "escalating",
    Phase.SUGGESTED: "suggested",
    Phase.REMEDIATED: "remediated",
    Phase.INEFFECTIVE: "ineffective",
    Phase.RESOLVED_ITSELF: "resolved itself",
    Phase.FAILED: "failed",
    Phase.DENIED: "denied",
    Phase.REJECTED: "rejected",
    Phase.EXPIRED: "expired",
    Phase.UNKNOWN: "unknown",
}

TONES: Mapping[Phase, str] = {
    Phase.AWAITING_APPROVAL: "ask",
    Phase.APPROVED: "busy",
    Phase.EXECUTING: "busy",
    Phase.VERIFYING: "busy",
    Phase.UNDOING: "busy",
    Phase.ESCALATING: "bad",
    Phase.SUGGESTED: "hint",
    Phase.REMEDIATED: "good",
    Phase.INEFFECTIVE: "bad",
    Phase.FAILED: "bad",
    Phase.EXPIRED: "bad",
    Phase.UNKNOWN: "bad",
}
"""How a phase is coloured; the rest is quiet."""


@dataclass(frozen=True, slots=True)
class Told:
    """One line of a timeline, with what belongs below it."""

    at: datetime
    title: str
    lines: tuple[str, ...] = ()
    tone: str = "quiet"
    kind: str = ""
    seq: int = 0


def tell(entries: Iterable[Entry]) -> tuple[Told, ...]:
    """Every entry as a line. A kind that is not known here is told by its name and data."""
    return tuple(_tell(entry) for entry in entries)


def reasons(entries: Iterable[Entry]) -> tuple[tuple[str, str, bool], ...]:
    """What each guard said when it was last asked: its name, its reason, whether it was against."""
    for entry in reversed(tuple(entries)):
        if entry.event.kind in ("judged", "rechecked"):
            data = entry.event.data
            against = [(deny["guard"], deny["reason"], True) for deny in data.get("denied", ())]
            return (*against, *((name, "", False) for name in data.get("allowed", ())))
    return ()


def _tell(entry: Entry) -> Told:
    kind, data = entry.event.kind, entry.event.data
    title, lines, tone = SENTENCES.get(kind, _plain(kind))(data)
    return Told(entry.at, title, tuple(line for line in lines if line), tone, kind, entry.seq)


Sentence = tuple[str, Iterable[str], str]


def _plain(kind: str) -> Callable[[Data], Sentence]:
    def told(data: Data) -> Sentence:
        return (
            kind.replace("_", " "),
            [f"{name}: {_text(value)}" for name, value in data.items() if value],
            "quiet",
        )

    return told


def _text(value: Any) -> str:
    return ", ".join(_text(one) for one in value) if isinstance(value, (list, tuple)) else str(value)


def _moment(text: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(text)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return str(text)


def _short(digest: Any) -> str:
    return f"digest {str(digest)[:12]}" if digest else ""


def _verdicts(title: str) -> Callable[[Data], Sentence]:
    def told(data: Data) -> Sentence:
        against = [f"{deny['guard']}: {deny['reason']}" for deny in data.get("denied", ())]
        against += [f"drift: {line}" for line in data.get("drift", ())]
        if not against:
            return f"{title}: all {len(data.get('allowed', ()))} guards allow it", (), "good"
        return f"{title}: held back", against, "bad"

    return told


def _vote(title: str, tone: str) -> Callable[[Data], Sentence]:
    def told(data: Data) -> Sentence:
        votes = f"{data['votes']} of {data['needed']} votes" if "votes" in data else ""
        about = [votes, str(data.get("reason", "")), str(data.get("why", "")), _short(data.get("digest"))]
        by = _text(data.get("by", "somebody"))
        return f"{title} {by}" + (f" via {data['via']}" if data.get("via") else ""), about, tone

    return told


def _step(title: str, tone: str, *names: str) -> Callable[[Data], Sentence]:
    def told(data: Data) -> Sentence:
        return (
            f"{title} {int(data.get('step', 0)) + 1}",
            [_text(data[name]) for name in names if data.get(name)],
            tone,
        )

    return told


def _said(title: str, tone: str, *names: str) -> Callable[[Data], Sentence]:
    return lambda data: (title, [_text(data[name]) for name in names if data.get(name)], tone)


SENTENCES: Mapping[str, Callable[[Data], Sentence]] = {
    "matched": lambda data: (f"matched by {data.get('rule', 'a rule')}", (), "quiet"),
    "started": _vote("started by", "ask"),
    "judged": _verdicts("judged"),
    "rechecked": _verdicts("checked again before acting"),
    "planned": lambda data: (
        f"planned with {data.get('playbook', '')}",
        [*data.get("effects", ()), _short(data.get("digest"))],
        "quiet",
    ),
    "approval_asked": lambda data: (
        "asked for approval",
        [f"until {_moment(data.get('expires_at'))}"],
        "ask",
    ),
    "vote": _vote("approved by", "good"),
    "vote_refused": _vote("a vote was refused, of", "bad"),
    "rejected": _vote("rejected by", "bad"),
    "approved": _vote("approved, by", "good"),
    "confirmed": _vote("confirmed by", "good"),
    "drifted": _said("the world moved, so it is planned again", "ask", "drift"),
    "intent": _step("begins step", "busy", "action"),
    "outcome": _step("finished step", "good", "summary"),
    "reobserved": _step("looked again at step", "busy", "progress"),
    "unknown": _step("it is not known what came of step", "bad"),
    "verifying": _said("verifying", "busy", "expr"),
    "sampled": lambda data: (
        {True: "the symptom is gone", False: "the symptom is there"}.get(data.get("gone"), "no sample"),  # type: ignore[arg-type]
        [_text(data.get("value", ""))],
        "good" if data.get("gone") else "bad",
    ),
    "not_verified": _said("not verified", "bad", "why", "value"),
    "undoing": _step("undoes step", "busy"),
    "undone": _step("undid step", "quiet", "summary"),
    "escalating": lambda data: (
        f"handed over to {_text(data.get('to', ())) or 'people'}",
        [str(data.get("reason", ""))],
        "bad",
    ),
    "next_rung": lambda data: (
        f"goes on to rung {int(data.get('rung', 0)) + 1}",
        [str(data.get("reason", ""))],
        "ask",
    ),
    "alert_resolved": _said("Alertmanager says that the alert is over", "good"),
    "expired": _said("nobody decided in time", "bad"),
    "interrupted": _said("the service was stopped meanwhile, and is back", "ask", "phase", "pending"),
    "failed": lambda data: (f"{data.get('doing', 'it')} failed", [str(data.get("reason", ""))], "bad"),
    "finished": lambda data: (
        f"ended: {str(data.get('outcome', '')).replace('_', ' ')}",
        [str(data.get("reason", ""))],
        "good" if data.get("outcome") == "remediated" else "quiet",
    ),
}
