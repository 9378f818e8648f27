"""What people click in Slack, over HTTP and through Socket Mode, against a Slack that keeps to its contract."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.adapters.slack import SlackMessenger
from remediator.adapters.slack_blocks import APPROVE, REJECT
from remediator.adapters.slack_client import SlackConfig
from remediator.adapters.slack_inbound import SlackInbound
from remediator.adapters.slack_socket import SlackSocket
from remediator.domain.approvals import Vote
from remediator.domain.remediations import Phase, Remediation
from remediator.errors import LedgerUnavailable
from remediator.pipeline.service import Service
from remediator.redaction import Redactor
from remediator.web.app import make_app
from remediator.web.auth import Account, People
from remediator.web.config import WebConfig
from tests.support.fake_slack import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, FakeSlack, NotAcknowledgedError
from tests.support.fake_slack import Message as Shown
from tests.support.serving import ADA, BOB, EVE, Serving, rule, serving
from tests.support.slack_delivery import signed
from tests.support.slack_state import APP_ID, TEAM
from tests.support.waiting import eventually

PEOPLE = People([Account(ADA, "a-token", "U0ADA"), Account(BOB, slack="U0BOB"), Account(EVE, slack="U0EVE")])


def config(slack: FakeSlack, **more: Any) -> SlackConfig:
    """Settings for it."""
    return replace(
        SlackConfig(
            BOT_TOKEN,
            "#ops",
            base_url=slack.api_url,
            signing_secret=SIGNING_SECRET,
            people=PEOPLE.by_slack,
            team=TEAM["id"],
            app=APP_ID,
            redact=Redactor([BOT_TOKEN, SIGNING_SECRET]),
        ),
        **more,
    )


@dataclass
class Joined:
    """The pipeline, Slack, and the web between them."""

    running: Serving
    slack: FakeSlack
    messenger: SlackMessenger

    async def ask(self) -> tuple[Remediation, Shown]:
        """Have a remediation ask for approval in Slack."""
        remediation = await self.running.fire()
        return remediation, self.slack.messages()[-1]

    async def settled(self, id_: str) -> Remediation:
        """Let what was clicked be done, and return the remediation."""
        assert self.messenger.inbound is not None
        await self.messenger.inbound.idle()
        await self.running.settle()
        return await self.running.now(id_)

    @property
    def told(self) -> list[str]:
        """What single people were told."""
        return [one["text"] for one in self.slack.state.ephemeral]


@asynccontextmanager
async def joined(*, service: Service | None = None, votes: int = 1, **more: Any) -> AsyncIterator[Joined]:
    """Put them together over HTTP."""
    async with FakeSlack() as slack:
        messenger = SlackMessenger(config(slack, **more))
        async with serving(rule(votes=votes), messenger=messenger) as running:
            await messenger.start(service or running.service)
            app = make_app(running.service, WebConfig(webhook_tokens=("x",)), PEOPLE, messenger)
            async with TestServer(app) as server:
                slack.interactivity_url = str(server.make_url("/slack/interactions"))
                yield Joined(running, slack, messenger)
                await messenger.close()
        assert slack.state.violations == []


async def test_an_approval_over_http() -> None:
    """Clicked, acknowledged, counted under the configured name, done, and the same message says so."""
    async with joined() as all_:
        remediation, card = await all_.ask()

        reply = await all_.slack.click(card.ts, APPROVE, "U0ADA")
        after = await all_.settled(remediation.id)

        assert (reply.status, reply.body) == (200, "")
        assert after.agreed == ("ada",)
        assert all_.running.action.applied == 1
        assert "approved by `ada`" in all_.slack.message(card.ts).shown
        assert all_.slack.message(card.ts).action_ids == []
        assert all_.told == []
        entries = await all_.running.service.timeline(remediation.id)
        assert [e.event.data["via"] for e in entries if e.event.kind == "vote"] == ["slack"]


async def test_a_rejection_over_http() -> None:
    """Nothing is done, and the message says who said no."""
    async with joined() as all_:
        remediation, card = await all_.ask()

        await all_.slack.click(card.ts, REJECT, "U0BOB")
        after = await all_.settled(remediation.id)

        assert after.phase is Phase.REJECTED
        assert all_.running.action.applied == 0
        assert "rejected by bob" in all_.slack.message(card.ts).shown


async def test_two_people_have_to_agree() -> None:
    """The second click of the same person is refused to them alone; another person's is the second vote."""
    async with joined(votes=2) as all_:
        remediation, card = await all_.ask()

        await all_.slack.click(card.ts, APPROVE, "U0ADA")
        await all_.settled(remediation.id)
        between = all_.slack.message(card.ts).shown
        await all_.slack.click(card.ts, APPROVE, "U0ADA")
        await all_.settled(remediation.id)
        untouched = all_.running.action.applied
        await all_.slack.click(card.ts, APPROVE, "U0BOB")
        after = await all_.settled(remediation.id)

        assert "1 of 2 votes (`ada`)" in between
        assert all_.told == ["This did not count: ada has approved already; another person is needed."]
        assert untouched == 0
        assert after.agreed == ("ada", "bob")
        assert all_.running.action.applied == 1


async def test_somebody_unknown_is_refused_politely() -> None:
    """A Slack user who is nobody here decides nothing, is told how to mend that, and stands in the journal."""
    async with joined() as all_:
        remediation, card = await all_.ask()

        reply = await all_.slack.click(card.ts, APPROVE, "U0MALLORY")
        after = await all_.settled(remediation.id)

        assert reply.acknowledged
        assert after.agreed == ()
        assert len(all_.told) == 1
        assert "U0MALLORY" in all_.told[0]
        noted = [
            e.event for e in await all_.running.ledger.journal() if e.event.kind == "slack_person_unknown"
        ]
        assert [(e.data["user"], e.data["remediation"]) for e in noted] == [("U0MALLORY", remediation.id)]


async def test_an_unlisted_person_is_refused() -> None:
    """A known person who is no approver is told so, and the message stays as it is."""
    async with joined() as all_:
        remediation, card = await all_.ask()

        await all_.slack.click(card.ts, APPROVE, "U0EVE")
        after = await all_.settled(remediation.id)

        assert after.phase is Phase.AWAITING_APPROVAL
        assert all_.told == ["This did not count: eve is not among the approvers (devops)."]
        assert all_.slack.message(card.ts).action_ids == [APPROVE, REJECT]


async def test_a_click_on_what_was_decided_is_refused() -> None:
    """Somebody whose screen still shows the buttons: too late, and told so."""
    async with joined() as all_:
        remediation, card = await all_.ask()
        late = all_.slack.press(card.ts, APPROVE, "U0BOB")
        await all_.slack.click(card.ts, REJECT, "U0ADA")
        await all_.settled(remediation.id)

        reply = await all_.slack.deliver(late)
        await all_.settled(remediation.id)

        assert reply.acknowledged
        assert all_.running.action.applied == 0
        assert all_.told[0].startswith("This did not count: there is nothing to decide")


async def test_another_plans_button_is_refused() -> None:
    """A button under another digest than the plan's approves nothing."""
    async with joined() as all_:
        remediation, card = await all_.ask()
        click = all_.slack.press(card.ts, APPROVE, "U0ADA")
        payload = json.loads(json.dumps(click.payload))
        payload["actions"][0]["value"] = f"{remediation.id} {'0' * 64}"

        await all_.slack.deliver(signed("interactive", payload, SIGNING_SECRET))
        after = await all_.settled(remediation.id)

        assert after.agreed == ()
        assert all_.told == [
            "This did not count: the plan has changed since you saw it; look at the new one."
        ]


async def test_forged_requests_are_refused() -> None:
    """Another secret, another body, an old or a future time, no signature: 401, and nobody has approved."""
    async with joined() as all_:
        remediation, card = await all_.ask()

        def press(**more: Any) -> Any:
            return all_.slack.press(card.ts, APPROVE, "U0ADA", **more)

        good = press()
        forged = [
            press(secret="another secret"),
            good.tampered(),
            press(timestamp=time.time() - 301),
            press(timestamp=time.time() + 301),
            replace(good, headers={k: v for k, v in good.headers.items() if "Signature" not in k}),
            replace(good, headers={k: v for k, v in good.headers.items() if "Timestamp" not in k}),
            replace(good, headers={**good.headers, "X-Slack-Request-Timestamp": "²"}),
            replace(good, headers={**good.headers, "X-Slack-Request-Timestamp": "-1"}),
            replace(good, body=b"\xff\xfe"),
        ]
        replies = [await all_.slack.deliver(one) for one in forged]
        after = await all_.settled(remediation.id)

        assert [reply.status for reply in replies] == [401] * len(forged)
        assert after.agreed == ()
        assert all_.running.action.applied == 0


async def test_a_replayed_request_is_refused() -> None:
    """The very same request again, within its five minutes, is not taken a second time."""
    async with joined(votes=2) as all_:
        remediation, card = await all_.ask()
        click = all_.slack.press(card.ts, APPROVE, "U0ADA")

        first, again = [await all_.slack.deliver(click) for _ in range(2)]
        await all_.settled(remediation.id)

        assert (first.status, again.status) == (200, 401)
        entries = await all_.running.service.timeline(remediation.id)
        assert [e.event.kind for e in entries].count("vote") == 1
        assert all_.told == []


@pytest.mark.parametrize("change", [{"team": {"id": "T0OTHER"}}, {"api_app_id": "A0OTHER"}, {"team": None}])
async def test_another_workspace_is_refused(change: dict[str, Any]) -> None:
    """Rightly signed, and from another workspace or app: 401."""
    async with joined() as all_:
        remediation, card = await all_.ask()
        payload = {**all_.slack.press(card.ts, APPROVE, "U0ADA").payload, **change}

        reply = await all_.slack.deliver(signed("interactive", payload, SIGNING_SECRET))
        after = await all_.settled(remediation.id)

        assert reply.status == 401
        assert after.agreed == ()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"type": "view_submission"}, id="another-kind"),
        pytest.param({"actions": []}, id="no-action"),
        pytest.param({"actions": None}, id="null"),
        pytest.param({"actions": ["x"]}, id="odd"),
        pytest.param({"actions": [{"action_id": "other", "value": "x"}]}, id="another-button"),
        pytest.param({"actions": [{"action_id": APPROVE, "value": "x"}]}, id="an-odd-value"),
        pytest.param(
            {"actions": [{"action_id": APPROVE, "value": f"nothing {'0' * 64}"}]}, id="an-unknown-id"
        ),
        pytest.param({"user": None}, id="nobody"),
    ],
)
async def test_odd_interactions_decide_nothing(change: dict[str, Any]) -> None:
    """Acknowledged, so that Slack does not complain, and without effect."""
    async with joined() as all_:
        remediation, card = await all_.ask()
        payload = {**all_.slack.press(card.ts, APPROVE, "U0ADA").payload, **change}

        reply = await all_.slack.deliver(signed("interactive", payload, SIGNING_SECRET))
        after = await all_.settled(remediation.id)

        assert reply.acknowledged
        assert (after.phase, after.agreed) == (Phase.AWAITING_APPROVAL, ())


class Slow(Service):
    """A service whose ledger takes long."""

    gate: asyncio.Event

    async def vote(self, id_: str, vote: Vote) -> str:
        """Wait for the gate."""
        await self.gate.wait()
        return await super().vote(id_, vote)


class FullDisk(Service):
    """A service whose ledger takes nothing."""

    async def vote(self, id_: str, vote: Vote) -> str:
        """Fail as the ledger does."""
        raise LedgerUnavailable("database or disk is full")


def like(service: Service, kind: type[Service]) -> Any:
    """The same service as another kind."""
    return kind(
        service._ledger,
        service._ingest,
        service._advance,
        service._clock,
        service._reload,
        service.mode,
        service._starter,
    )


async def test_slack_is_answered_before_the_work() -> None:
    """The acknowledgement does not wait for the ledger; and what was acknowledged is finished before we stop."""
    async with joined() as all_:
        slow = like(all_.running.service, Slow)
        slow.gate = asyncio.Event()
        await all_.messenger.start(slow)
        remediation, card = await all_.ask()

        reply = await all_.slack.click(card.ts, APPROVE, "U0ADA")
        before = await all_.running.now(remediation.id)
        closing = asyncio.create_task(all_.messenger.close())
        slow.gate.set()
        await closing

        assert reply.acknowledged
        assert before.agreed == ()
        assert (await all_.running.now(remediation.id)).agreed == ("ada",)


async def test_a_click_that_cannot_be_written_is_told() -> None:
    """The person learns that it did not count, without the database's words."""
    async with joined() as all_:
        await all_.messenger.start(like(all_.running.service, FullDisk))
        remediation, card = await all_.ask()

        await all_.slack.click(card.ts, APPROVE, "U0ADA")
        await all_.settled(remediation.id)

        assert all_.told == ["Nothing was decided: the ledger could not be written. Please click again."]


async def test_only_slacks_own_addresses_are_answered() -> None:
    """A response URL that is not Slack's is not called, whoever signed it."""
    called: list[str] = []

    async def trap(request: web.Request) -> web.Response:
        called.append(request.path)
        return web.Response()

    elsewhere = web.Application()
    elsewhere.router.add_route("*", "/{any:.*}", trap)
    async with joined() as all_, TestServer(elsewhere) as other:
        remediation, card = await all_.ask()
        payload = all_.slack.press(card.ts, APPROVE, "U0EVE").payload
        payload = {**payload, "response_url": str(other.make_url("/response/x"))}

        await all_.slack.deliver(signed("interactive", payload, SIGNING_SECRET))
        await all_.settled(remediation.id)

        assert called == []
        assert all_.told == []


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://slack.com/api/", "https://hooks.slack.com/"),
        ("https://slack-gov.com/api/", "https://hooks.slack-gov.com/"),
        ("http://127.0.0.1:9/api", "http://127.0.0.1:9/"),
    ],
)
def test_where_response_urls_are(base_url: str, expected: str) -> None:
    """Slack's own host for them, or the host of the API that stands in for it."""
    assert expected == SlackConfig("", "", base_url=base_url).hooks


async def test_no_interactions_without_a_signing_secret() -> None:
    """Without the secret nothing can be verified, so nothing is taken."""
    async with joined(signing_secret="") as all_:
        remediation, card = await all_.ask()

        reply = await all_.slack.deliver(all_.slack.press(card.ts, APPROVE, "U0ADA"))

        assert reply.status == 401
        assert (await all_.settled(remediation.id)).agreed == ()


@asynccontextmanager
async def by_socket() -> AsyncIterator[tuple[Joined, SlackSocket]]:
    """Put them together through Socket Mode, with short times."""
    async with FakeSlack() as slack:
        settings = config(slack, app_token=APP_TOKEN, signing_secret="")
        messenger = SlackMessenger(replace(settings, app_token=""))
        async with serving(messenger=messenger) as running:
            await messenger.start(running.service)
            assert isinstance(messenger.inbound, SlackInbound)
            socket = SlackSocket(settings, messenger.inbound, ping=0.2, connect=2, lost=1)
            task = asyncio.create_task(socket.run())
            try:
                await eventually(lambda: _connected(slack), what="the first connection")
                yield Joined(running, slack, messenger), socket
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def _connected(slack: FakeSlack, opened: int = 0) -> bool:
    return bool(slack.sockets.connections) and slack.sockets.opened > opened


async def test_an_approval_through_socket_mode() -> None:
    """The same handler behind the other way in: acknowledged by envelope, counted, shown."""
    async with by_socket() as (all_, _):
        remediation, card = await all_.ask()

        reply = await all_.slack.click(card.ts, APPROVE, "U0ADA", via="socket")
        after = await all_.settled(remediation.id)

        assert reply.acknowledged
        assert after.agreed == ("ada",)
        assert "approved by `ada`" in all_.slack.message(card.ts).shown
        assert all_.slack.state.violations == []


async def test_a_refusal_through_socket_mode() -> None:
    """The person is told through the response URL here too."""
    async with by_socket() as (all_, _):
        remediation, card = await all_.ask()

        await all_.slack.click(card.ts, APPROVE, "U0EVE", via="socket")
        await all_.settled(remediation.id)

        assert all_.told == ["This did not count: eve is not among the approvers (devops)."]


async def test_socket_mode_comes_back() -> None:
    """Renewed by Slack, cut by the network, or away for an outage: it connects again."""
    async with by_socket() as (all_, _):
        opened = all_.slack.sockets.opened
        await all_.slack.sockets.disconnect()
        await eventually(lambda: _connected(all_.slack, opened), within=20, what="connected after a refresh")

        opened = all_.slack.sockets.opened
        await all_.slack.sockets.cut()
        await eventually(lambda: _connected(all_.slack, opened), within=20, what="connected after a cut")

        opened = all_.slack.sockets.opened
        await all_.slack.stop()
        await all_.slack.start()
        await eventually(lambda: _connected(all_.slack, opened), within=30, what="connected after an outage")

        remediation, card = await all_.ask()

        async def clicked() -> bool:
            # A connection that Slack still counts may be the one that is just being given up.
            try:
                await all_.slack.click(card.ts, APPROVE, "U0ADA", via="socket")
            except NotAcknowledgedError:
                return False
            return True

        await eventually(clicked, within=20, what="a click that arrives")
        after = await all_.settled(remediation.id)
        assert after.agreed == ("ada",)


class Forgetful(dict[str, float]):
    """Tickets that are forgotten as soon as they are made, as those are that expire before they can be used."""

    def __setitem__(self, ticket: str, made: float) -> None:
        """Forget it."""


async def test_socket_mode_survives_a_url_that_went_stale() -> None:
    """Slack gives out a URL and then cannot be reached until it has expired: slack_sdk alone would try it for ever."""
    async with by_socket() as (all_, _):
        slack = all_.slack
        opened, asked = slack.sockets.opened, _asked(slack)
        slack.state.tickets = Forgetful()
        await slack.sockets.cut()

        async def stale() -> bool:
            return _asked(slack) > asked

        await eventually(stale, within=20, what="a URL that is of no use")
        slack.state.tickets = {}
        await eventually(lambda: _connected(slack, opened), within=30, what="connected with a fresh URL")

        remediation, card = await all_.ask()
        await slack.click(card.ts, APPROVE, "U0ADA", via="socket")
        assert (await all_.settled(remediation.id)).agreed == ("ada",)


def _asked(slack: FakeSlack) -> int:
    return [method for method, _ in slack.state.calls].count("apps.connections.open")


async def test_an_envelope_counts_once() -> None:
    """An envelope that Slack sends again, since our acknowledgement was lost, is one click."""
    async with joined(votes=2) as all_:
        remediation, card = await all_.ask()
        payload = all_.slack.press(card.ts, APPROVE, "U0ADA").payload
        assert all_.messenger.inbound is not None

        for _ in range(2):
            all_.messenger.inbound.receive_once("envelope-1", payload)
        await all_.settled(remediation.id)

        assert all_.told == []
