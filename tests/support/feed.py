"""A test exporter: samples under the real exporters' names, as the scrapes of several targets see them.

A target is one path (`/brainstem`), as if it were an exporter of its own. A test says what it shows; counters go on
counting between scrapes, and times keep the age that was asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

from tests.support.ports import free_port

Kind = Literal["gauge", "counter", "age", "gone"]


@dataclass(frozen=True)
class Reading:
    """One series, and what it shows from now on; see the functions below for the kinds."""

    name: str
    kind: Kind
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def series(self) -> str:
        """The series as the text format writes it."""
        told = ",".join(f'{name}="{value}"' for name, value in sorted(self.labels.items()))
        return f"{self.name}{{{told}}}" if told else self.name


def gauge(name: str, value: float, /, **labels: str) -> Reading:
    """This value."""
    return Reading(name, "gauge", value, labels)


def counter(name: str, per_second: float, /, **labels: str) -> Reading:
    """It counts at this rate, on from what it had."""
    return Reading(name, "counter", per_second, labels)


def age(name: str, seconds: float, /, **labels: str) -> Reading:
    """A Unix time that is always so many seconds ago."""
    return Reading(name, "age", seconds, labels)


def gone(name: str, /, **labels: str) -> Reading:
    """The exporter shows this series no more."""
    return Reading(name, "gone", 0, labels)


@dataclass(frozen=True)
class _Shown:
    """What a series shows: `base` is what a counter had when its rate was set, at `since`."""

    reading: Reading
    base: float
    since: float

    def value(self, now: float) -> float:
        """What a scrape at this moment reads."""
        if self.reading.kind == "counter":
            return self.base + self.reading.value * (now - self.since)
        if self.reading.kind == "age":
            return now - self.reading.value
        return self.reading.value


class Feed:
    """The exporter. A context manager: it serves on a port of its own while the block lasts."""

    def __init__(self) -> None:
        self._shown: dict[str, dict[str, _Shown]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        """`host:port`, as a target of Prometheus."""
        return f"127.0.0.1:{self._server.server_port}"

    def show(self, target: str, *readings: Reading) -> None:
        """Let the target show these from now on, beside what it shows already."""
        now = time.time()
        with self._lock:
            shown = self._shown.setdefault(target, {})
            for reading in readings:
                before = shown.pop(reading.series, None)
                if reading.kind == "gone":
                    continue
                base = before.value(now) if before and before.reading.kind == "counter" else 0.0
                shown[reading.series] = _Shown(reading, base, now)

    def text(self, target: str) -> str | None:
        """What a scrape of the target reads now, in the text format; None where there is no such target."""
        now = time.time()
        with self._lock:
            shown = self._shown.get(target)
            if shown is None:
                return None
            return "".join(f"{series} {one.value(now)!r}\n" for series, one in shown.items())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = feed.text(self.path.strip("/"))
                body = (text or "").encode()
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing: pytest's output is the test's."""

        return Handler
