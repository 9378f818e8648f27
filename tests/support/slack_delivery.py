"""An interaction as Slack sends it: built from what a person did, signed, delivered and answered."""

import hashlib
import hmac
import json
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.support import slack_blocks
from tests.support.slack_state import APP_ID, TEAM, Message, SlackState

ACK_SECONDS = 3.0


class NoSuchButtonError(AssertionError):
    """The message shows no element with that action id, so that nobody could click it."""


@dataclass(frozen=True)
class Delivery:
    """One interaction on its way to the service: signed as it will be sent, to be delivered once or again."""

    kind: str
    payload: Mapping[str, Any]
    body: bytes
    headers: Mapping[str, str]

    def tampered(self) -> "Delivery":
        """Return it with another body under the same signature."""
        return replace(self, body=self.body + b"&x=1")


@dataclass(frozen=True)
class Reply:
    """The service's answer to a delivery; `seconds` is how long it took."""

    status: int
    body: str
    seconds: float

    @property
    def acknowledged(self) -> bool:
        """Whether Slack would take it for an acknowledgement."""
        return self.status == 200 and self.seconds <= ACK_SECONDS


def signed(kind: str, payload: Mapping[str, Any], secret: str, timestamp: float | None = None) -> Delivery:
    """Return any payload as a signed delivery: v0, HMAC-SHA256 of `v0:timestamp:body`."""
    body = urllib.parse.urlencode({"payload": json.dumps(payload)}).encode()
    seconds = str(int(time.time() if timestamp is None else timestamp))
    signature = hmac.new(secret.encode(), f"v0:{seconds}:".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
        "X-Slack-Request-Timestamp": seconds,
        "X-Slack-Signature": f"v0={signature}",
    }
    return Delivery(kind, payload, body, headers)


def block_actions(
    state: SlackState, url: str, message: Message, action_id: str, user_id: str, version: int
) -> Any:
    """Return the payload of a click on an element of one version of a message; `url` is where Slack listens."""
    shown = message.payload(version)
    found = [
        pair for pair in slack_blocks.elements(shown.get("blocks", [])) if pair[1]["action_id"] == action_id
    ]
    if not found:
        raise NoSuchButtonError(f"{message.ts} shows no {action_id}, but {message.action_ids}")
    block, element = found[0]
    place = {"message_ts": message.ts, "channel_id": message.channel, "is_ephemeral": False}
    return {
        "type": "block_actions",
        **_sender(state, user_id),
        "container": {"type": "message", **place},
        "channel": {"id": message.channel, "name": state.channels[message.channel]},
        "message": shown,
        "state": {"values": {}},
        "response_url": f"{url}/response/{state.new_response_url(message.channel, message.ts)}",
        "actions": [
            {
                **{
                    key: element[key]
                    for key in ("type", "action_id", "text", "value", "style")
                    if key in element
                },
                "block_id": block.get("block_id", ""),
                "action_ts": f"{state.now():.6f}",
            }
        ],
    }


def view_submission(
    state: SlackState, view_id: str, user_id: str, values: Mapping[str, Mapping[str, Any]]
) -> Any:
    """Return the payload of a dialog that a person filled in and sent."""
    return {
        "type": "view_submission",
        **_sender(state, user_id),
        "view": {**state.views[view_id], "state": {"values": dict(values)}},
        "response_urls": [],
    }


def _sender(state: SlackState, user_id: str) -> dict[str, Any]:
    return {
        "user": {"id": user_id, "username": user_id.lower(), "name": user_id.lower(), "team_id": TEAM["id"]},
        "api_app_id": APP_ID,
        "token": "deprecated-verification-token",
        "trigger_id": state.new_trigger(),
        "team": TEAM,
        "enterprise": None,
        "is_enterprise_install": False,
    }
