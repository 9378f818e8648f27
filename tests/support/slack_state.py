"""What the fake Slack remembers: messages with all their versions, views, triggers, response URLs, tickets."""

import copy
import itertools
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support import slack_blocks
from tests.support.slack_blocks import complaints

TRIGGER_SECONDS = 3.0
RESPONSE_URL_SECONDS, RESPONSE_URL_USES = 1800.0, 5
TICKET_SECONDS = 30.0

TEAM = {"id": "T0TEST", "domain": "test"}
APP_ID, BOT_ID, BOT_USER = "A0TEST", "B0TEST", "U0BOT"


class SlackError(Exception):
    """What Slack answers as `{"ok": false, "error": ...}`; `details` are response_metadata.messages."""

    def __init__(self, error: str, details: list[str] | None = None) -> None:
        super().__init__(error, details)
        self.error = error
        self.details = details or []


@dataclass
class Message:
    """One message; `versions` has every content it ever showed, the last being the present one."""

    channel: str
    ts: str
    thread_ts: str | None
    versions: list[dict[str, Any]] = field(default_factory=list)
    deleted: bool = False

    @property
    def text(self) -> str:
        """The fallback text."""
        return str(self.versions[-1].get("text", ""))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The blocks shown now."""
        found: list[dict[str, Any]] = self.versions[-1].get("blocks", [])
        return found

    @property
    def shown(self) -> str:
        """Every text that a person reads in the blocks, line by line; for a test to look for words in."""
        return "\n".join(_texts(self.blocks))

    @property
    def action_ids(self) -> list[str]:
        """The action ids that can be clicked now."""
        return [element["action_id"] for _, element in slack_blocks.elements(self.blocks)]

    @property
    def mentions(self) -> list[str]:
        """Who would be rung: `<!channel>`, `<!here>`, `<@U1>` and the like, in text and blocks."""
        return re.findall(r"<[!@][^>]+>", "\n".join((self.text, self.shown)))

    def payload(self, version: int = -1) -> dict[str, Any]:
        """Return the message as Slack puts it into answers and interaction payloads."""
        content = copy.deepcopy(self.versions[version])
        thread = {"thread_ts": self.thread_ts} if self.thread_ts else {}
        edited = {"edited": {"user": BOT_USER, "ts": self.ts}} if len(self.versions) > 1 else {}
        base = {"type": "message", "user": BOT_USER, "bot_id": BOT_ID, "app_id": APP_ID, "team": TEAM["id"]}
        return {**base, "ts": self.ts, **thread, **edited, **content}


@dataclass
class ResponseUrl:
    """A URL by which an app may answer an interaction, 5 times within 30 minutes."""

    channel: str
    ts: str | None
    until: float
    uses: int = 0


class SlackState:
    """The whole memory of one workspace."""

    def __init__(self, *, bot_token: str, app_token: str, channels: Mapping[str, str]) -> None:
        self.bot_token = bot_token
        self.app_token = app_token
        self.channels = dict(channels)
        self.messages: list[Message] = []
        self.ephemeral: list[dict[str, Any]] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.triggers: dict[str, float | None] = {}
        self.response_urls: dict[str, ResponseUrl] = {}
        self.tickets: dict[str, float] = {}
        self.pace = False
        self.faults: dict[str, deque[dict[str, Any]]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.violations: list[str] = []
        self.clock: Callable[[], float] = time.time
        self._ahead = 0.0
        self._number = itertools.count(100)
        self._posted: dict[str, float] = {}

    def now(self) -> float:
        """Return Slack's idea of the time, in Unix seconds."""
        return self.clock() + self._ahead

    def pass_time(self, seconds: float) -> None:
        """Let Slack's clock go on, so that triggers, tickets and response URLs age."""
        self._ahead += seconds

    def channel(self, name: object) -> str:
        """Return the id of a channel named by id, by `#name` or by a user's id (their direct messages)."""
        for known, title in self.channels.items():
            if name in (known, title, f"#{title}"):
                return known
        if isinstance(name, str) and re.fullmatch(r"U[A-Z0-9]+", name):
            return self.direct(name)
        raise SlackError("channel_not_found")

    def direct(self, user: str) -> str:
        """Return the id of the direct-message channel with a user, opening it if needed."""
        self.channels.setdefault(f"D{user[1:]}", f"dm-{user}")
        return f"D{user[1:]}"

    def take_turn(self, channel: str) -> float:
        """Return 0, or the seconds to wait if a message to the channel comes less than a second after the last."""
        if self.pace and self.now() - self._posted.get(channel, 0.0) < 1.0:
            return 1.0
        self._posted[channel] = self.now()
        return 0.0

    def post(self, channel: str, arguments: Mapping[str, Any]) -> Message:
        """Keep a new message, or refuse it as Slack does."""
        content = checked_content(arguments)
        ts = f"{int(self.now())}.{next(self._number):06d}"
        message = Message(channel, ts, arguments.get("thread_ts"), [content])
        self.messages.append(message)
        return message

    def update(self, channel: str, ts: object, arguments: Mapping[str, Any]) -> Message:
        """Give a message another content; with text alone its blocks, and so its buttons, go."""
        message = self.find(channel, ts)
        message.versions.append(checked_content(arguments))
        return message

    def find(self, channel: str, ts: object) -> Message:
        """Return a message that is there, or refuse."""
        for message in self.messages:
            if (message.channel, message.ts) == (channel, ts) and not message.deleted:
                return message
        raise SlackError("message_not_found")

    def new_trigger(self) -> str:
        """Return a trigger id, good for one view within 3 s."""
        trigger = f"{next(self._number)}.{secrets.token_hex(8)}"
        self.triggers[trigger] = self.now()
        return trigger

    def spend_trigger(self, trigger: object) -> None:
        """Use up a trigger id, or refuse one that is unknown, old or used."""
        if not isinstance(trigger, str) or trigger not in self.triggers:
            raise SlackError("invalid_trigger_id")
        made = self.triggers[trigger]
        if made is None:
            raise SlackError("exchanged_trigger_id")
        if self.now() - made > TRIGGER_SECONDS:
            raise SlackError("expired_trigger_id")
        self.triggers[trigger] = None

    def new_response_url(self, channel: str, ts: str | None) -> str:
        """Return the key of a new response URL."""
        key = secrets.token_hex(12)
        self.response_urls[key] = ResponseUrl(channel, ts, self.now() + RESPONSE_URL_SECONDS)
        return key

    def spend_response_url(self, key: str) -> ResponseUrl:
        """Count a use of a response URL, or refuse one that is unknown, too old or used five times."""
        found = self.response_urls.get(key)
        if found is None:
            raise SlackError("invalid_url")
        if self.now() > found.until:
            raise SlackError("expired_url")
        if found.uses >= RESPONSE_URL_USES:
            raise SlackError("used_url")
        found.uses += 1
        return found

    def new_ticket(self) -> str:
        """Return the ticket of a Socket Mode URL, good for one connection within 30 s."""
        ticket = secrets.token_hex(12)
        self.tickets[ticket] = self.now()
        return ticket

    def spend_ticket(self, ticket: str) -> bool:
        """Use up a ticket; tell whether it was good."""
        made = self.tickets.pop(ticket, None)
        return made is not None and self.now() - made <= TICKET_SECONDS


def checked_content(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return text, blocks and attachments of a message, or refuse them as Slack does.

    Stricter than Slack: blocks without `text` are refused (Slack only warns), since that text is all that a
    notification or a screen reader has.
    """
    text = arguments.get("text")
    if not isinstance(text, str) or not text.strip():
        raise SlackError("no_text")
    if len(text) > 40_000:
        raise SlackError("msg_too_long")
    content: dict[str, Any] = {"text": text}
    for key in ("blocks", "attachments", "metadata"):
        if arguments.get(key) is not None:
            content[key] = copy.deepcopy(arguments[key])
    wrong = complaints(content.get("blocks", []))
    if wrong:
        raise SlackError("invalid_blocks", wrong)
    for number, block in enumerate(content.get("blocks", [])):
        block.setdefault("block_id", f"b{number}{secrets.token_hex(2)}")
    return content


def _texts(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["text"]] if isinstance(node.get("text"), str) else []
        return own + [
            text for key, value in node.items() if key != "text" or not own for text in _texts(value)
        ]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return []
