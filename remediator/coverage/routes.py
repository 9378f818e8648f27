"""Alertmanager's routes, walked with our own matchers: which notifications of an alert reach our webhook.

Where a label is not known before an alert fires, both ways are walked: an alert "surely" reaches us only when it does
on every way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from remediator.adapters.yamlfiles import Document
from remediator.coverage.files import read_foreign
from remediator.coverage.shapes import Answer, Shape, all_match
from remediator.domain.durations import parse_duration
from remediator.domain.matchers import Matcher, Operator, parse_matchers
from remediator.errors import ConfigError, Finding

WEBHOOK = "/api/v1/alertmanager"
"""The path of our webhook: a receiver that posts there is ours."""

REPEAT_INTERVAL = timedelta(hours=4)
"""Alertmanager's own default."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook_config that posts to us."""

    receiver: str
    max_alerts: int = 0
    send_resolved: bool = True
    authenticated: bool = False
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    """A node of the routing tree, with what it inherits."""

    receiver: str
    matchers: tuple[Matcher, ...] = ()
    carry_on: bool = False
    repeat_interval: timedelta = REPEAT_INTERVAL
    quiet: tuple[str, ...] = ()
    """Time intervals that mute it, or that it is active in alone."""
    routes: tuple[Route, ...] = ()
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Routing:
    """An alertmanager.yml, as far as it concerns us."""

    file: str
    root: Route
    hooks: tuple[Hook, ...] = ()

    @property
    def ours(self) -> frozenset[str]:
        """The receivers that post to us."""
        return frozenset(hook.receiver for hook in self.hooks)

    def reaches_us(self, shape: Shape) -> bool:
        """Whether every alert of this shape surely comes to our webhook."""
        return _reaches(self.root, shape, self.ours)

    def taken_by(self, shape: Shape) -> tuple[Route, ...]:
        """The routes that may deliver alerts of this shape, in order."""
        return tuple(_taken(self.root, shape))

    def to_us(self, shape: Shape) -> tuple[Route, ...]:
        """Those of them that deliver to us."""
        return tuple(route for route in self.taken_by(shape) if route.receiver in self.ours)

    def walk(self) -> Iterator[Route]:
        """Every route, the root first."""
        waiting = [self.root]
        while waiting:
            route = waiting.pop(0)
            yield route
            waiting += route.routes


def _reaches(route: Route, shape: Shape, ours: frozenset[str]) -> bool:
    def on(index: int, matched: bool) -> bool:
        if index == len(route.routes):
            return not matched and route.receiver in ours
        child = route.routes[index]
        answer = all_match(child.matchers, shape)
        taken = answer is not Answer.NO and (
            _reaches(child, shape, ours) or (child.carry_on and on(index + 1, True))
        )
        if answer is Answer.YES:
            return taken
        passed = on(index + 1, matched)
        return passed if answer is Answer.NO else taken and passed

    return on(0, False)


def _taken(route: Route, shape: Shape) -> Iterator[Route]:
    surely = False
    for child in route.routes:
        answer = all_match(child.matchers, shape)
        if answer is Answer.NO:
            continue
        yield from _taken(child, shape)
        if answer is Answer.YES:
            surely = True
            if not child.carry_on:
                return
    if not surely:
        yield route


def read_routing(path: Path) -> Routing:
    """Read an alertmanager.yml. `amtool check-config` is the judge of what is not asked for here.

    Raises:
        ConfigError: when it cannot be read, or a matcher or duration of a route is wrong.
    """
    document = read_foreign(path)
    data = document.data if isinstance(document.data, dict) else {}
    findings: list[Finding] = []
    root = _route(document, data.get("route") or {}, ("route",), None, findings)
    if not root.receiver:
        findings.append(
            Finding(str(path), 1, 1, "there is no route with a receiver; expected route.receiver")
        )
    if findings:
        raise ConfigError(tuple(findings))
    return Routing(str(path), root, tuple(_hooks(document, data)))


def _route(
    document: Document, row: dict[str, Any], at: tuple[Any, ...], above: Route | None, told: list[Finding]
) -> Route:
    line, column = document.place(at)
    matchers: list[Matcher] = []
    repeat = above.repeat_interval if above else REPEAT_INTERVAL
    try:
        matchers = [matcher for text in row.get("matchers") or [] for matcher in parse_matchers(str(text))]
        matchers += [Matcher(k, Operator.EQUAL, str(v)) for k, v in (row.get("match") or {}).items()]
        matchers += [Matcher(k, Operator.REGEX, str(v)) for k, v in (row.get("match_re") or {}).items()]
        if "repeat_interval" in row:
            repeat = parse_duration(str(row["repeat_interval"]))
    except ValueError as error:
        told.append(Finding(document.file, line, column, str(error)))
    receiver = str(row.get("receiver") or (above.receiver if above else ""))
    quiet = [*(row.get("mute_time_intervals") or []), *(row.get("active_time_intervals") or [])]
    own = Route(
        receiver, tuple(matchers), bool(row.get("continue")), repeat, tuple(map(str, quiet)), (), line, column
    )
    below = tuple(
        _route(document, child, (*at, "routes", index), own, told)
        for index, child in enumerate(row.get("routes") or [])
    )
    return Route(
        receiver, own.matchers, own.carry_on, own.repeat_interval, own.quiet, below, own.line, own.column
    )


def _hooks(document: Document, data: Mapping[str, Any]) -> Iterator[Hook]:
    common = (data.get("global") or {}).get("http_config") or {}
    for index, receiver in enumerate(data.get("receivers") or []):
        for place, hook in enumerate(receiver.get("webhook_configs") or []):
            if not urlsplit(str(hook.get("url") or "")).path.rstrip("/").endswith(WEBHOOK):
                continue
            http = hook.get("http_config") or common
            line, column = document.place(("receivers", index, "webhook_configs", place))
            yield Hook(
                receiver=str(receiver.get("name", "")),
                max_alerts=int(hook.get("max_alerts") or 0),
                send_resolved=hook.get("send_resolved", True) is not False,
                authenticated=bool(
                    http.keys()
                    & {"authorization", "basic_auth", "oauth2", "bearer_token_file", "bearer_token"}
                ),
                line=line,
                column=column,
            )
