"""The fake Slack's Web API and response URLs, as aiohttp handlers over SlackState."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tests.support.slack_state import APP_ID, BOT_ID, BOT_USER, TEAM, SlackError, SlackState
from tests.support.slack_views import checked_view

Arguments = Mapping[str, Any]
Answer = dict[str, Any]

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
APP_METHODS = {"apps.connections.open"}
"""Methods that want the app-level token, and not the bot's."""


class SlackWeb:
    """Answers `/api/<method>` and `/response/<key>`."""

    def __init__(self, state: SlackState, websocket_url: Callable[[str], str]) -> None:
        """`websocket_url` makes the Socket Mode URL of a ticket."""
        self._state = state
        self._websocket_url = websocket_url
        self._methods: dict[str, Callable[[Arguments], Answer]] = {
            "api.test": lambda _: {},
            "auth.test": self._auth_test,
            "apps.connections.open": self._connections_open,
            "chat.postMessage": self._post,
            "chat.postEphemeral": self._post_ephemeral,
            "chat.update": self._update,
            "chat.delete": self._delete,
            "chat.getPermalink": self._permalink,
            "conversations.open": self._conversations_open,
            "users.info": self._users_info,
            "views.open": self._views_open,
            "views.update": self._views_update,
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for an aiohttp application."""
        return [web.post("/api/{method}", self.api), web.post("/response/{key}", self.respond)]

    async def api(self, request: web.Request) -> web.Response:
        """Answer one Web API call."""
        method = request.match_info["method"]
        state = self._state
        faults = state.faults.get(method)
        if faults:
            fault = faults.popleft()
            return web.json_response(fault["body"], status=fault["status"], headers=fault["headers"])
        try:
            arguments = await _arguments(request)
            self._authorise(method, request.headers.get("Authorization", ""), arguments.pop("token", None))
            state.calls.append((method, arguments))
            if method not in self._methods:
                raise SlackError("unknown_method")
            if method == "chat.postMessage":
                wait = state.take_turn(state.channel(arguments.get("channel")))
                if wait:
                    return rate_limited(wait)
            return web.json_response({"ok": True, **self._methods[method](arguments)})
        except SlackError as error:
            details = {"response_metadata": {"messages": error.details}} if error.details else {}
            return web.json_response({"ok": False, "error": error.error, **details})

    async def respond(self, request: web.Request) -> web.Response:
        """Take an app's answer at a response URL, which needs no token: knowing it is the permission."""
        state = self._state
        try:
            url = state.spend_response_url(request.match_info["key"])
            body = await _json(request)
            if body.get("delete_original"):
                state.find(url.channel, url.ts).deleted = True
            elif body.get("replace_original"):
                state.update(url.channel, url.ts, body)
            elif body.get("response_type") == "in_channel":
                state.post(url.channel, body)
            else:
                state.ephemeral.append({"channel": url.channel, **body})
        except SlackError as error:
            status = 404 if error.error.endswith("_url") else 400
            return web.json_response({"ok": False, "error": error.error}, status=status)
        return web.Response(text="ok")

    def _authorise(self, method: str, header: str, argument: object) -> None:
        token = header.removeprefix("Bearer ").strip() if header.startswith("Bearer ") else argument
        if method == "api.test":
            return
        if not token:
            raise SlackError("not_authed")
        right, other = self._state.bot_token, self._state.app_token
        if method in APP_METHODS:
            right, other = other, right
        if token == other:
            raise SlackError("not_allowed_token_type")
        if token != right:
            raise SlackError("invalid_auth")

    def _auth_test(self, _: Arguments) -> Answer:
        who = {"team": TEAM["domain"], "team_id": TEAM["id"], "user": "remediator", "user_id": BOT_USER}
        return {"url": "https://test.slack.invalid/", **who, "bot_id": BOT_ID, "is_enterprise_install": False}

    def _connections_open(self, _: Arguments) -> Answer:
        return {"url": self._websocket_url(self._state.new_ticket())}

    def _post(self, arguments: Arguments) -> Answer:
        channel = self._state.channel(arguments.get("channel"))
        message = self._state.post(channel, arguments)
        return {"channel": channel, "ts": message.ts, "message": message.payload()}

    def _post_ephemeral(self, arguments: Arguments) -> Answer:
        channel = self._state.channel(arguments.get("channel"))
        if not arguments.get("user"):
            raise SlackError("user_not_in_channel")
        self._state.ephemeral.append({**arguments, "channel": channel})
        return {"message_ts": f"{self._state.now():.6f}"}

    def _update(self, arguments: Arguments) -> Answer:
        channel = self._known_channel(arguments)
        message = self._state.update(channel, arguments.get("ts"), arguments)
        return {"channel": channel, "ts": message.ts, "text": message.text, "message": message.payload()}

    def _delete(self, arguments: Arguments) -> Answer:
        channel = self._known_channel(arguments)
        message = self._state.find(channel, arguments.get("ts"))
        message.deleted = True
        return {"channel": channel, "ts": message.ts}

    def _permalink(self, arguments: Arguments) -> Answer:
        channel = self._known_channel(arguments)
        message = self._state.find(channel, arguments.get("message_ts"))
        link = f"https://test.slack.invalid/archives/{channel}/p{message.ts.replace('.', '')}"
        return {"channel": channel, "permalink": link}

    def _known_channel(self, arguments: Arguments) -> str:
        """Return the channel's id; these methods know no names and no user ids, unlike chat.postMessage."""
        channel = arguments.get("channel")
        if not isinstance(channel, str) or channel not in self._state.channels:
            raise SlackError("channel_not_found")
        return channel

    def _conversations_open(self, arguments: Arguments) -> Answer:
        users = arguments.get("users") or ""
        first = users[0] if isinstance(users, list) and users else str(users).split(",")[0]
        if not first.startswith("U"):
            raise SlackError("user_not_found")
        return {"channel": {"id": self._state.direct(first)}}

    def _users_info(self, arguments: Arguments) -> Answer:
        user = str(arguments.get("user", ""))
        if not user.startswith("U"):
            raise SlackError("user_not_found")
        return {
            "user": {
                "id": user,
                "name": user.lower(),
                "team_id": TEAM["id"],
                "deleted": False,
                "is_bot": False,
            }
        }

    def _views_open(self, arguments: Arguments) -> Answer:
        view = checked_view(arguments.get("view"))
        self._state.spend_trigger(arguments.get("trigger_id"))
        view_id = f"V{len(self._state.views):06d}"
        state: Answer = {"state": {"values": {}}, "hash": f"{self._state.now()}", "team_id": TEAM["id"]}
        self._state.views[view_id] = {**view, "id": view_id, "app_id": APP_ID, "bot_id": BOT_ID, **state}
        return {"view": self._state.views[view_id]}

    def _views_update(self, arguments: Arguments) -> Answer:
        view_id = str(arguments.get("view_id"))
        if view_id not in self._state.views:
            raise SlackError("not_found")
        self._state.views[view_id].update(checked_view(arguments.get("view")))
        return {"view": self._state.views[view_id]}


def rate_limited(seconds: float) -> web.Response:
    """Return Slack's answer to a caller who is too fast."""
    headers = {"Retry-After": str(int(seconds))}
    return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except ValueError:
        raise SlackError("invalid_json") from None
    if not isinstance(body, dict):
        raise SlackError("json_not_object")
    return body


async def _arguments(request: web.Request) -> dict[str, Any]:
    """Return a call's arguments from the query and JSON or a form, in which lists and objects are JSON texts."""
    if request.content_type == "application/json":
        return {**request.query, **await _json(request)}
    if request.content_type not in (*FORMS, "application/octet-stream"):
        raise SlackError("invalid_post_type")
    form: dict[str, Any] = {**request.query, **await request.post()}
    for key in ("blocks", "attachments", "view", "metadata"):
        if key in form:
            try:
                form[key] = json.loads(str(form[key]))
            except ValueError:
                raise SlackError(
                    "invalid_blocks_format" if key == "blocks" else "invalid_arguments"
                ) from None
    return form
