"""What we tell Slack, against a Slack that keeps to its contract: cards, updates, escalations, limits, outages."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from remediator.adapters.slack import SlackMessenger
from remediator.adapters.slack_client import SlackConfig, slack_logger
from remediator.domain.approvals import Vote
from remediator.domain.remediations import Remediation
from remediator.errors import DeliveryFailed
from remediator.pipeline.ports import Message, Outgoing
from remediator.redaction import Redactor
from tests.support.fake_slack import BOT_TOKEN, FakeSlack
from tests.support.serving import ADA, Serving, serving
from tests.support.waiting import eventually


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """A Slack that nobody has broken a rule of by the end."""
    async with FakeSlack() as fake:
        yield fake
        assert fake.state.violations == []


def config(slack: FakeSlack, **more: str) -> SlackConfig:
    """Settings for it."""
    return SlackConfig(
        **{"bot_token": BOT_TOKEN, "channel": "#ops", "base_url": slack.api_url, **more},  # type: ignore[arg-type]
        contacts={"redis-oncall": "S0REDIS", "security": "#security", "ops": "C0OPS", "gone": "#gone"},
        channels={"hpc": "C0SEC"},
        redact=Redactor([BOT_TOKEN]),
    )


@pytest.fixture
async def messenger(slack: FakeSlack) -> AsyncIterator[SlackMessenger]:
    """A messenger of its own, without a pipeline."""
    made = SlackMessenger(config(slack))
    yield made
    await made.close()


@pytest.fixture
async def waiting() -> AsyncIterator[Remediation]:
    """A remediation that asks for approval."""
    async with serving() as running:
        yield await running.fire()


class SecondCall(deque[dict[str, Any]]):
    """A fault that only the second call meets."""

    def __init__(self) -> None:
        super().__init__([{"status": 200, "body": {"ok": False, "error": "internal_error"}, "headers": {}}])
        self.calls = 0

    def __bool__(self) -> bool:
        self.calls += 1
        return self.calls == 2


def outgoing(remediation: Remediation, kind: str = "card", ref: str = "", **data: Any) -> Outgoing:
    """A message of the outbox."""
    return Outgoing(1, remediation, Message(kind, data), ref)


def posts(slack: FakeSlack, method: str = "chat.postMessage") -> int:
    """How often a method was called."""
    return [name for name, _ in slack.state.calls].count(method)


async def test_one_card_is_kept_up_to_date(slack: FakeSlack) -> None:
    """The whole pipeline with Slack: one message per remediation, which shows each phase and loses its buttons."""
    async with serving(messenger=SlackMessenger(config(slack))) as running:
        remediation = await running.fire()
        (asked,) = slack.messages()
        asking = (asked.shown, asked.action_ids)
        assert remediation.plan is not None

        await running.service.vote(remediation.id, _approve(remediation))
        await running.settle()

        (after,) = slack.messages()
        assert asking[1] == ["remediator_approve", "remediator_reject"]
        assert "set 3 -&gt; 7" in asking[0]
        assert after.ts == asked.ts
        assert after.action_ids == []
        assert "Done; verifying that it helped" in after.shown
        assert "approved by `ada`" in after.shown


async def test_the_reference_is_channel_and_time(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """The reference names the channel by its id, which updates need, even where it is configured by name."""
    ref = await messenger.deliver(outgoing(waiting))
    again = await messenger.deliver(outgoing(waiting, ref=ref))

    (message,) = slack.messages()
    assert ref == again == f"C0OPS:{message.ts}"
    assert len(message.versions) == 2


async def test_a_system_may_have_its_own_channel(slack: FakeSlack, waiting: Remediation) -> None:
    """Cards of a system go where configuration says."""
    messenger = SlackMessenger(config(slack))
    try:
        ref = await messenger.deliver(outgoing(replace(waiting, system="hpc")))
    finally:
        await messenger.close()

    assert ref.startswith("C0SEC:")


async def test_an_escalation_answers_the_card(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """It hangs below the card, is shown in the channel too, rings the contact, and leaves the reference as it was."""
    ref = await messenger.deliver(outgoing(waiting))
    data = {
        "to": ["redis-oncall"],
        "reason": "it did not help",
        "outcome": "ineffective",
        "evidence": ["12 keys"],
    }

    again = await messenger.deliver(outgoing(waiting, "escalation", ref, **data))

    card, call = slack.messages()
    assert again == ref
    assert call.thread_ts == card.ts
    assert slack.state.calls[-1][1]["reply_broadcast"] is True
    assert "<!subteam^S0REDIS>" in call.shown
    assert "<!subteam^S0REDIS>" not in card.shown
    assert "12 keys" in call.shown


async def test_an_escalation_without_a_card_posts_one_first(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """People who are called find the card above; a try that fails in between does not post it twice."""
    call = outgoing(waiting, "escalation", reason="x")
    slack.state.faults["chat.postMessage"] = SecondCall()

    with pytest.raises(DeliveryFailed, match="internal_error"):
        await messenger.deliver(call)
    ref = await messenger.deliver(call)

    card, reply = slack.messages()
    assert ref == f"C0OPS:{card.ts}"
    assert reply.thread_ts == card.ts


async def test_an_escalation_goes_to_the_contacts_channels_too(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """A contact that is a channel reads it there; one that we may not post in stops nobody else."""
    ref = await messenger.deliver(outgoing(waiting))
    call = outgoing(waiting, "escalation", ref, to=["gone", "security", "redis-oncall"], reason="x")

    again = await messenger.deliver(call)

    assert again == ref
    assert len(slack.messages("C0OPS")) == 2
    (there,) = slack.messages("C0SEC")
    assert "Please take over" in there.shown


async def test_an_escalation_is_not_repeated_where_it_arrived(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """Slack fails between the reply and the channel: the next try posts only what is missing."""
    ref = await messenger.deliver(outgoing(waiting))
    slack.state.faults["chat.postMessage"] = SecondCall()
    call = outgoing(waiting, "escalation", ref, to=["security"], reason="x")

    with pytest.raises(DeliveryFailed, match="internal_error"):
        await messenger.deliver(call)
    await messenger.deliver(call)

    assert len(slack.messages("C0OPS")) == 2
    assert len(slack.messages("C0SEC")) == 1


async def test_a_short_wait_is_waited_out(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """Retry-After: 1 is honoured at once, by slack_sdk's handler, and then it is delivered."""
    slack.rate_limit_next("chat.postMessage", retry_after=1)

    assert await messenger.deliver(outgoing(waiting))
    assert len(slack.messages()) == 1


async def test_a_long_wait_is_the_outboxs(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """Retry-After: 30 is told to the outbox, and until then nothing else is sent to Slack at all."""
    slack.rate_limit_next("chat.postMessage", retry_after=30)

    with pytest.raises(DeliveryFailed) as first:
        await messenger.deliver(outgoing(waiting))
    with pytest.raises(DeliveryFailed) as second:
        await messenger.deliver(outgoing(waiting))

    assert first.value.retry_after == 30
    assert second.value.retry_after is not None
    assert 29 <= second.value.retry_after <= 30
    assert posts(slack) == 0


async def test_a_deleted_card_is_posted_again(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """Somebody deleted it: people still have to be asked."""
    ref = await messenger.deliver(outgoing(waiting))
    slack.messages()[0].deleted = True

    again = await messenger.deliver(outgoing(waiting, ref=ref))

    (message,) = slack.messages()
    assert again == f"C0OPS:{message.ts}" != ref
    assert message.action_ids


async def test_blocks_that_slack_dislikes_are_told_in_plain_text(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation
) -> None:
    """A message is better than none: the plan is there, without buttons."""
    slack.fail_next("chat.postMessage", error="invalid_blocks")

    await messenger.deliver(outgoing(waiting))

    (message,) = slack.messages()
    assert message.blocks == []
    assert "set 3 -&gt; 7" in message.text


@pytest.mark.parametrize("error", ["internal_error", "not_in_channel", "invalid_auth", "account_inactive"])
async def test_a_refusal_is_told(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation, error: str
) -> None:
    """Slack's own word is in the failure, and the outbox tries again by itself."""
    slack.fail_next("chat.postMessage", error=error)

    with pytest.raises(DeliveryFailed, match=error) as failed:
        await messenger.deliver(outgoing(waiting))

    assert failed.value.retry_after is None


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_broken_slack_is_told(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation, status: int
) -> None:
    """A server's error is a failure like any other."""
    slack.fail_next("chat.postMessage", status=status)

    with pytest.raises(DeliveryFailed):
        await messenger.deliver(outgoing(waiting))


async def test_an_outage_is_survived(
    slack: FakeSlack, messenger: SlackMessenger, waiting: Remediation, capfd: pytest.CaptureFixture[str]
) -> None:
    """While Slack is away deliveries fail with a reason that holds no secret; when it is back they go on."""
    await slack.stop()
    with pytest.raises(DeliveryFailed, match="could not be reached") as failed:
        await messenger.deliver(outgoing(waiting))
    await slack.start()

    assert await messenger.deliver(outgoing(waiting))
    assert BOT_TOKEN not in str(failed.value)
    assert failed.value.__cause__ is None
    said = capfd.readouterr()
    assert BOT_TOKEN not in said.out + said.err


async def test_a_paced_slack_gets_everything(slack: FakeSlack) -> None:
    """One message a second and channel: the outbox and Retry-After together deliver all, each once."""
    slack.pace_messages()
    async with serving(messenger=SlackMessenger(config(slack))) as running:
        await running.fire(instance="redis-1")
        await _flush_until(running, slack, 1)
        await running.fire(instance="redis-2")
        await _flush_until(running, slack, 2)

        assert len({message.text for message in slack.messages()}) == 2


def test_the_logger_tells_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever slack_sdk logs: no debug, no token, no ticket of a Socket Mode URL."""
    logger = slack_logger(Redactor([BOT_TOKEN]))
    handler = logging.StreamHandler()
    logger.addHandler(handler)

    logger.debug("body: %s", "hello")
    logger.warning("failed: %s wss://example/link/?ticket=abc-123&app_id=x", BOT_TOKEN)

    said = capfd.readouterr().err
    assert "failed: [redacted] wss://example/link/?" in said
    assert "hello" not in said
    assert "abc-123" not in said


def _approve(remediation: Remediation) -> Vote:
    assert remediation.plan is not None
    return Vote(ADA, True, remediation.plan.digest, "api")


async def _flush_until(running: Serving, slack: FakeSlack, count: int) -> None:
    async def delivered() -> bool:
        await running.clock.sleep(1)
        await running.outbox.flush()
        return len(slack.messages()) >= count

    await eventually(delivered, what=f"{count} messages")
