"""Messages for Slack: what they say in each phase, within Slack's limits, and that nothing from outside is markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.adapters.slack_blocks import (
    APPROVE,
    REJECT,
    SIGNS,
    Look,
    button_value,
    card,
    code,
    cut,
    escalation,
    mention,
    read_button,
    texts,
)
from remediator.domain.approvals import Approval
from remediator.domain.guards import Limits
from remediator.domain.plans import Effect, Plan, PlannedStep
from remediator.domain.remediations import Phase, Remediation
from remediator.domain.rules import Mode, Rung
from remediator.redaction import Redactor
from remediator.testing import NOON
from tests.support.slack_blocks import complaints, elements

LOOK = Look(
    Redactor(["hunter-2-hunter"]), "https://remediator.example", {"redis-oncall": "S0REDIS", "ada": "U0ADA"}
)
UNLINK = Effect(
    "redis.unlink_prefix",
    "db 0, seg:*",
    {"prefix": "seg:"},
    "UNLINK 12,340 keys under seg: (1.2 GB) in db 0",
    figures={"keys": 12340, "bytes": 1.2e9},
    at_most={"keys": 14808},
    irreversible=True,
)
RESTART = Effect("docker.restart", "api", {}, "restart container api", figures={"containers": 1})
SCALE = Effect("compose.scale", "worker", {}, "scale worker 1 -> 3", undo="scale worker to 1 again")
MENTION = re.compile(r"<[!@#](?!date\^)[^>]*>")
"""Whatever would ring somebody or link a channel; dates are Slack's own and ring nobody."""


def a_plan(*effects: Effect, checklist: tuple[str, ...] = ()) -> Plan:
    """A plan of one step for each effect."""
    steps = tuple(PlannedStep(f"step {n}", e.action, "cache", {}, (e,)) for n, e in enumerate(effects))
    return Plan("flush-cache", steps, NOON, checklist)


PLAN = a_plan(UNLINK, RESTART, SCALE)
WAITING = Remediation(
    id="0123456789ab",
    rule="cache-hit-rate",
    system="brainstem",
    subject="redis-1",
    episode="e",
    fingerprint="f",
    labels={"alertname": "CacheHitRateLow", "severity": "critical"},
    annotations={"summary": "The hit rate is under 30%"},
    starts_at=NOON,
    created_at=NOON,
    ladder=(Rung("flush-cache", mode=Mode.APPROVE, approval=Approval(frozenset({"devops"}), votes=2)),),
    cap=Mode.APPROVE,
    limits=Limits(),
    escalate_to=("redis-oncall",),
    phase=Phase.AWAITING_APPROVAL,
    plan=PLAN,
    expires_at=NOON + timedelta(hours=1),
)


def shown(remediation: Remediation) -> str:
    """All that a person reads."""
    return "\n".join(texts(card(remediation, LOOK).blocks))


def test_a_card_that_asks() -> None:
    """Title, summary, every effect with its figures and its undo, who may decide, until when, and the digest."""
    told = shown(WAITING)

    for text in (
        "CacheHitRateLow: redis-1",
        "The hit rate is under 30%",
        "UNLINK 12,340 keys under seg: (1.2 GB) in db 0",
        "keys 12,340 (at most 14,808) · bytes 1.2 GB",
        "*cannot be undone*",
        "nothing to take back",
        "undo: `scale worker to 1 again`",
        "0 of 2 votes · may decide: `devops`",
        "2026-01-15 13:00:00 UTC",
        f"digest `{PLAN.digest[:12]}`",
        "https://remediator.example/remediations/0123456789ab",
    ):
        assert text in told


def test_the_buttons_carry_the_whole_digest() -> None:
    """Approve and reject name the remediation and exactly the plan that is shown; approving asks once more."""
    buttons = {element["action_id"]: element for _, element in elements(card(WAITING, LOOK).blocks)}

    assert set(buttons) == {APPROVE, REJECT}
    assert {read_button(button["value"]) for button in buttons.values()} == {("0123456789ab", PLAN.digest)}
    assert buttons[APPROVE]["confirm"]["text"]["text"].startswith("Part of it cannot be undone.")
    assert [buttons[one]["text"]["text"] for one in (APPROVE, REJECT)] == ["Approve", "Reject"]


def test_a_runbook_is_confirmed() -> None:
    """A page for a person shows its checklist, and the buttons say what they mean."""
    plan = a_plan(checklist=("look at the fan", "turn it on"))
    content = card(replace(WAITING, plan=plan), LOOK)

    told = "\n".join(texts(content.blocks))
    labels = [element["text"]["text"] for _, element in elements(content.blocks)]
    assert "☐ look at the fan\n☐ turn it on" in told
    assert labels == ["Done", "Did not help"]


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_has_its_words(phase: Phase) -> None:
    """A card says in every phase where things stand, and can be clicked only while it waits for a person."""
    content = card(replace(WAITING, phase=phase, agreed=("ada", "bob"), reason="because"), LOOK)

    told = "\n".join(texts(content.blocks))
    asking = phase is Phase.AWAITING_APPROVAL
    assert f"*{SIGNS[phase][1]}*" in told
    assert "`because`" in told
    assert content.text.startswith(SIGNS[phase][1])
    assert asking is bool(list(elements(content.blocks)))
    assert asking is ("approved by `ada`, `bob`" not in told)
    assert complaints(list(content.blocks)) == []


NASTY = (
    "<!channel> <@U1> <https://evil.example|click> *bold* _it_ ~no~ `code` @here #general :skull: & \n> quote"
)


def test_nothing_from_an_alert_is_markup() -> None:
    """No mention, no link, no formatting, no picture comes out of labels, annotations, reasons or effects."""
    nasty = replace(
        WAITING,
        rule=NASTY,
        system=NASTY,
        subject=NASTY,
        reason=NASTY,
        labels={"alertname": NASTY, "severity": NASTY},
        annotations={"summary": NASTY},
        agreed=(NASTY,),
        plan=a_plan(replace(SCALE, action=NASTY, summary=NASTY, undo=NASTY), checklist=(NASTY,)),
    )
    for phase in (Phase.AWAITING_APPROVAL, Phase.FAILED):
        content = card(replace(nasty, phase=phase), LOOK)
        every = [content.text, *texts(content.blocks)]
        assert not [text for text in every if MENTION.search(text)]
        assert not [text for text in every if "<https://evil" in text]
        for block in content.blocks:
            for part in (block.get("text"), *block.get("elements", ())):
                if isinstance(part, dict) and part.get("type") == "mrkdwn":
                    # Outside of code spans nothing of it is left.
                    assert "bold" not in re.sub(r"`[^`]*`", "", part["text"])
                elif isinstance(part, dict) and part.get("type") == "plain_text":
                    assert part["emoji"] is False
        assert complaints(list(content.blocks)) == []


@settings(deadline=None, max_examples=60)
@given(
    st.text(max_size=40) | st.sampled_from(["&" * 5000, "<" * 5000, "x" * 5000, "\n" * 50, "`" * 400, ""]),
    st.integers(0, 60),
    st.sampled_from(list(Phase)),
)
def test_a_card_is_always_one_that_slack_takes(text: str, effects: int, phase: Phase) -> None:
    """However long or odd the texts and however many the effects: within Slack's limits, and JSON."""
    remediation = replace(
        WAITING,
        phase=phase,
        rule=text,
        subject=text,
        reason=text,
        labels={"alertname": text},
        annotations={"summary": text},
        plan=a_plan(
            *[replace(SCALE, summary=text, undo=text, action=text)] * effects,
            checklist=(text,) * (effects // 8),
        ),
    )

    content = card(remediation, LOOK)

    assert complaints(list(content.blocks)) == []
    assert content.text.strip()
    assert len(content.text) <= 4000
    json.dumps(content.blocks)


def test_many_effects_are_cut_with_a_word() -> None:
    """What is left out is said, since somebody decides on it."""
    told = shown(replace(WAITING, plan=a_plan(*[SCALE] * 20)))

    assert "and 8 more effects: look at the page before you decide" in told


def test_no_secret_passes() -> None:
    """Configured secrets and what looks like one are hidden, in every part."""
    secret = "redis://u:hunter-2-hunter@db xoxb-123456789-abcdef Bearer abcdefghijk"
    leaking = replace(
        WAITING,
        subject=secret,
        reason=secret,
        labels={"alertname": secret, "severity": secret},
        annotations={"summary": secret},
        plan=a_plan(replace(SCALE, summary=secret, undo=secret), checklist=(secret,)),
    )

    everything = json.dumps(
        [
            card(leaking, LOOK).text,
            *card(leaking, LOOK).blocks,
            *escalation(leaking, {"evidence": [secret]}, LOOK).blocks,
        ]
    )

    for part in ("hunter-2-hunter", "xoxb-123456789", "abcdefghijk"):
        assert part not in everything


def test_an_escalation_rings_who_has_to_come() -> None:
    """Contacts are mentioned by the ids that configuration has; evidence and reason are there; nothing else rings."""
    data = {
        "to": ["redis-oncall", "ada", "nobody-known"],
        "reason": NASTY,
        "outcome": "ineffective",
        "evidence": [NASTY, "12 keys"],
    }
    content = escalation(WAITING, data, LOOK)

    every = [content.text, *texts(content.blocks)]
    rung = {found for text in every for found in MENTION.findall(text)}
    assert rung == {"<!subteam^S0REDIS>", "<@U0ADA>"}
    assert "`nobody-known`" in every[1]
    assert any("• 12 keys" in text for text in every)
    assert complaints(list(content.blocks)) == []


@pytest.mark.parametrize("slack", ["!channel", "U1> <!here", "here", "", "C0OPS", "<@U1>"])
def test_only_people_and_groups_are_rung(slack: str) -> None:
    """A contact that is no user and no user group rings nobody, whatever stands in the configuration."""
    assert mention("name", {"name": slack}) == "`name`"


@pytest.mark.parametrize(
    "value", ["", "id", "id abc", "id " + "0" * 63, " " + "0" * 64, "id " + "G" * 64, "0" * 64]
)
def test_a_strange_button_is_none_of_ours(value: str) -> None:
    """What a button carries is read strictly."""
    with pytest.raises(ValueError, match="not one of ours"):
        read_button(value)


def test_a_button_is_read_as_it_was_written() -> None:
    """Out and in again."""
    assert read_button(button_value("0123456789ab", "a" * 64)) == ("0123456789ab", "a" * 64)


@given(st.text(), st.integers(2, 50))
def test_a_code_span_has_one_beginning_and_one_end(text: str, limit: int) -> None:
    """Whatever is in it, nothing gets out of it."""
    span = code(text, limit)

    assert span.count("`") == 2
    assert "\n" not in span
    assert "<" not in span
    assert len(span) <= limit + 2


@pytest.mark.parametrize(
    ("text", "expected"), [("abc", "abc"), ("abcdefg", "abcd…"), ("ab&amp;cd", "ab…"), ("abc&lt;x", "abc…")]
)
def test_cut(text: str, expected: str) -> None:
    """Within the limit, with an ellipsis, and never half an entity."""
    assert expected == cut(text, 5)
