"""A remediation as a Slack message: pure, within Slack's limits, and with nothing from outside parsed as markup.

What came from an alert or an action stands in plain text or in a code span, escaped, so that it can neither
mention anybody, nor link, nor format. Only our own words are mrkdwn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from remediator.domain.plans import Effect, Plan
from remediator.domain.remediations import Phase, Remediation
from remediator.figures import figures

Block = dict[str, Any]
Redact = Callable[[str], str]

HEADER, SECTION, CONTEXT, FALLBACK, BUTTON_VALUE, BLOCKS = 150, 3000, 2000, 3900, 2000, 50
"""Slack's limits, in characters and blocks; the fallback text is what Slack recommends, the rest it refuses above."""
EFFECTS = 12
"""Effects shown in a card at most; the page has all of them."""

APPROVE, REJECT = "remediator_approve", "remediator_reject"
"""The buttons' action ids."""

SIGNS: Mapping[Phase, tuple[str, str]] = {
    Phase.MATCHED: (":hourglass_flowing_sand:", "Held"),
    Phase.JUDGED: (":mag:", "Planning"),
    Phase.AWAITING_APPROVAL: (":raised_hand:", "Waiting for a person"),
    Phase.APPROVED: (":ballot_box_with_check:", "Approved"),
    Phase.EXECUTING: (":gear:", "Executing"),
    Phase.VERIFYING: (":mag:", "Done; verifying that it helped"),
    Phase.UNDOING: (":leftwards_arrow_with_hook:", "Undoing"),
    Phase.ESCALATING: (":rotating_light:", "Handing over to people"),
    Phase.SUGGESTED: (":bulb:", "Suggested (dry run, nothing was touched)"),
    Phase.REMEDIATED: (":white_check_mark:", "Remediated"),
    Phase.INEFFECTIVE: (":warning:", "It did not help"),
    Phase.RESOLVED_ITSELF: (":dove_of_peace:", "The alert resolved by itself"),
    Phase.FAILED: (":x:", "Failed"),
    Phase.DENIED: (":no_entry:", "Denied by the guards"),
    Phase.REJECTED: (":no_entry_sign:", "Rejected"),
    Phase.EXPIRED: (":hourglass:", "Nobody decided in time"),
    Phase.UNKNOWN: (":question:", "It is not known what came of it; a person has to look"),
}


@dataclass(frozen=True, slots=True)
class Look:
    """How messages are made: `page` is the address of our pages (empty: no links), `redact` the last look at a
    text, `contacts` the Slack id of each name that rules escalate to: a user, a user group, or a channel.
    """

    redact: Redact
    page: str = ""
    contacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """What a message shows; `text` is for notifications, for screen readers, and for where blocks are refused."""

    text: str
    blocks: tuple[Block, ...]


def escape(text: str) -> str:
    """Slack's three control characters as entities: no mention, no link, no special command is left."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """The text within a limit, with an ellipsis where something is missing; never half an entity."""
    if len(text) <= limit:
        return text
    return re.sub(r"&[a-z]{0,3}$", "", text[: limit - 1]) + "…"


def code(text: str, limit: int = 200) -> str:
    """A value from outside as a code span, in which Slack formats nothing; its own end cannot be in it."""
    flat = " ".join(text.split()).replace("`", "'") or "-"
    return f"`{cut(escape(flat), limit)}`"


def card(remediation: Remediation, look: Look) -> Content:
    """A remediation's one message, as it stands now."""
    sign, word = SIGNS[remediation.phase]
    clean = look.redact
    title = f"{remediation.labels.get('alertname') or remediation.rule}: {remediation.subject}"
    blocks: list[Block] = [
        _header(clean(title)),
        _mrkdwn(f"{sign} *{word}*{_why(remediation, clean)}"),
        _context(
            f"rule {code(clean(remediation.rule))} · system {code(clean(remediation.system))} · "
            f"severity {code(clean(remediation.labels.get('severity', '-')))} · firing since {_when(remediation.starts_at)}"
        ),
    ]
    about = clean(remediation.annotations.get("summary") or remediation.annotations.get("description") or "")
    if about.strip():
        blocks.append(_plain(about))
    if remediation.plan is not None:
        blocks += _plan(remediation, remediation.plan, look)
    if remediation.phase is Phase.AWAITING_APPROVAL and remediation.plan is not None:
        blocks += _asking(remediation, remediation.plan)
    blocks.append(_footer(remediation, look))
    return Content(_fallback(remediation, word, title, clean), tuple(blocks[:BLOCKS]))


def escalation(remediation: Remediation, data: Mapping[str, Any], look: Look) -> Content:
    """A call to the people who have to take over, with the evidence. The only message that mentions anybody."""
    clean = look.redact
    names = [str(name) for name in data.get("to") or remediation.escalate_to]
    called = " ".join(mention(name, look.contacts) for name in names)
    outcome = str(data.get("outcome") or remediation.phase.value).replace("_", " ")
    title = f"{remediation.labels.get('alertname') or remediation.rule} on {remediation.subject}"
    reason = clean(str(data.get("reason") or remediation.reason)) or "no reason was given"
    blocks = [
        _mrkdwn(f":rotating_light: *Please take over* {called}\n{code(clean(title))} ended {code(outcome)}"),
        _plain(reason),
    ]
    evidence = [clean(str(line)) for line in data.get("evidence", ()) if str(line).strip()]
    if evidence:
        blocks += [_mrkdwn("*What was done and seen*"), _plain("\n".join(f"• {line}" for line in evidence))]
    blocks.append(_footer(remediation, look))
    text = f"Please take over {called}: {escape(clean(title))}: {escape(reason)}"
    return Content(cut(text, FALLBACK), tuple(blocks))


def mention(name: str, contacts: Mapping[str, str]) -> str:
    """A contact as Slack rings it, from configuration only; a name that it does not know stays a name."""
    slack = contacts.get(name, "")
    if re.fullmatch(r"[UW][A-Z0-9]+", slack):
        return f"<@{slack}>"
    if re.fullmatch(r"S[A-Z0-9]+", slack):
        return f"<!subteam^{slack}>"
    return code(name)


def channels(names: Iterable[str], contacts: Mapping[str, str]) -> tuple[str, ...]:
    """The channels among contacts, each once: an escalation is posted there too."""
    places = (contacts.get(name, "") for name in names)
    return tuple(dict.fromkeys(place for place in places if re.fullmatch(r"#[\w.-]+|[CG][A-Z0-9]+", place)))


def button_value(id_: str, digest: str) -> str:
    """What a button carries: the remediation and the digest of the very plan that is shown above it."""
    return f"{id_} {digest}"


def read_button(value: str) -> tuple[str, str]:
    """The remediation and the digest of a button. Raises ValueError."""
    id_, space, digest = value.rpartition(" ")
    if not space or not id_ or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("this button is not one of ours")
    return id_, digest


def _plan(remediation: Remediation, plan: Plan, look: Look) -> list[Block]:
    clean = look.redact
    blocks: list[Block] = [{"type": "divider"}]
    if plan.checklist:
        title = "*Checklist*" if plan.steps else "*What to do* (a person does this)"
        blocks += [_mrkdwn(title), _plain("\n".join(f"☐ {clean(line)}" for line in plan.checklist))]
    effects = [(step.action, effect) for step in plan.steps for effect in step.effects]
    if effects:
        done = f", {remediation.step} of {len(plan.steps)} steps done" if remediation.step else ""
        blocks.append(_mrkdwn(f"*Plan* {code(clean(plan.playbook))}{done}"))
    for action, effect in effects[:EFFECTS]:
        blocks.append(_plain(clean(effect.summary)))
        blocks.append(_context(_about(action, effect, clean)))
    if len(effects) > EFFECTS:
        blocks.append(
            _context(f"and {len(effects) - EFFECTS} more effects: look at the page before you decide")
        )
    return blocks


def _about(action: str, effect: Effect, clean: Redact) -> str:
    told = [code(clean(action))]
    sizes = figures(effect.figures, effect.at_most)
    if sizes:
        told.append(escape(clean(sizes)))
    if effect.irreversible:
        told.append(":warning: *cannot be undone*")
    else:
        told.append(f"undo: {code(clean(effect.undo))}" if effect.undo else "nothing to take back")
    return " · ".join(told)


def _asking(remediation: Remediation, plan: Plan) -> list[Block]:
    approval = remediation.current.approval
    who = ", ".join(code(name, 80) for name in sorted(approval.approvers)) or "nobody"
    agreed = ", ".join(code(name, 80) for name in remediation.agreed)
    told = f"{len(remediation.agreed)} of {approval.votes} votes{f' ({agreed})' if agreed else ''} · may decide: {who}"
    if remediation.expires_at is not None:
        told += f" · expires {_when(remediation.expires_at)}"
    yes, no = ("Approve", "Reject") if plan.steps else ("Done", "Did not help")
    value = button_value(remediation.id, plan.digest)
    approve: Block = {**_button(yes, APPROVE, value), "style": "primary"}
    if plan.steps:
        warning = "Part of it cannot be undone. " if plan.irreversible else ""
        approve["confirm"] = _confirm(
            "Approve this plan?", f"{warning}Exactly the plan with digest {plan.digest[:12]} will be done."
        )
    return [
        _context(told),
        {"type": "actions", "elements": [approve, {**_button(no, REJECT, value), "style": "danger"}]},
    ]


def _why(remediation: Remediation, clean: Redact) -> str:
    told = ""
    if remediation.agreed and remediation.phase is not Phase.AWAITING_APPROVAL:
        told += f" · approved by {', '.join(code(name, 80) for name in remediation.agreed)}"
    if remediation.reason:
        told += f"\n{code(clean(remediation.reason), 1500)}"
    return told


def _footer(remediation: Remediation, look: Look) -> Block:
    told = [f"remediation {code(remediation.id)}"]
    if remediation.plan is not None:
        told.append(f"digest {code(remediation.plan.digest[:12])}")
    if look.page:
        told.append(f"<{look.page.rstrip('/')}/remediations/{remediation.id}|open the page>")
    return _context(" · ".join(told))


def _fallback(remediation: Remediation, word: str, title: str, clean: Redact) -> str:
    told = f"{word}: {title}"
    if remediation.plan is not None:
        told += f" - {remediation.plan.summary}"
    return cut(escape(clean(" ".join(told.split()))), FALLBACK)


def _when(at: datetime) -> str:
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time_secs}}|{at:%Y-%m-%d %H:%M:%S} UTC>"


def _header(text: str) -> Block:
    return {"type": "header", "text": _text("plain_text", escape(" ".join(text.split())), HEADER)}


def _plain(text: str) -> Block:
    return {"type": "section", "text": _text("plain_text", escape(text), SECTION)}


def _mrkdwn(text: str) -> Block:
    return {"type": "section", "text": {**_text("mrkdwn", text, SECTION), "verbatim": True}}


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{**_text("mrkdwn", text, CONTEXT), "verbatim": True}]}


def _button(label: str, action: str, value: str) -> Block:
    text = {"type": "plain_text", "text": label}
    return {"type": "button", "action_id": action, "text": text, "value": value[:BUTTON_VALUE]}


def _confirm(title: str, text: str) -> Block:
    return {
        "title": _text("plain_text", title, 100),
        "text": _text("plain_text", text, 300),
        "confirm": _text("plain_text", "Approve", 30),
        "deny": _text("plain_text", "Not yet", 30),
    }


def _text(kind: str, text: str, limit: int) -> Block:
    made: Block = {"type": kind, "text": cut(text, limit) or "-"}
    # Without this, `:skull:` in a label would become a picture.
    return {**made, "emoji": False} if kind == "plain_text" else made


def texts(blocks: Iterable[Block]) -> Sequence[str]:
    """Every text in blocks, for tests and for a fallback without blocks."""
    found: list[str] = []
    for block in blocks:
        for part in (block.get("text"), *block.get("elements", ())):
            if isinstance(part, dict):
                inner = part.get("text")
                found.append(inner["text"] if isinstance(inner, dict) else str(inner))
    return found
