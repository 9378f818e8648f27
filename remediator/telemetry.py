"""Every metric, and the structlog set-up. Labels are rule, playbook, outcome, guard and stage; never a subject."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

BUILD = Gauge("remediator_build_info", "1, with the version that runs.", ["version", "mode"])
READY = Gauge("remediator_ready", "1 while alerts are accepted and acted on.")
RECEIVED = Counter("remediator_webhook_received_total", "Webhook posts that were committed.")
REJECTED = Counter("remediator_webhook_rejected_total", "Webhook posts that were not, by reason.", ["reason"])
ALERTS = Counter("remediator_alerts_total", "Alerts in committed posts, by what they were.", ["outcome"])
TRUNCATED = Counter("remediator_truncated_alerts_total", "Alerts that Alertmanager cut from notifications.")
REMEDIATIONS = Counter(
    "remediator_remediations_total", "Remediations that ended.", ["rule", "playbook", "outcome"]
)
ACTIVE = Gauge("remediator_active_remediations", "Remediations that have not ended, by phase.", ["phase"])
VERDICTS = Counter("remediator_guard_verdicts_total", "What the guards said.", ["guard", "verdict"])
STAGE = Histogram("remediator_stage_seconds", "How long a stage took.", ["stage"], buckets=_BUCKETS)
HTTP = Histogram("remediator_http_seconds", "How long a request took.", ["route"], buckets=_BUCKETS)
VOTES = Counter("remediator_votes_total", "Votes on plans.", ["outcome"])
WAITING = Gauge("remediator_approvals_waiting", "Plans that wait for a person.")
OLDEST_WAITING = Gauge("remediator_approval_oldest_waiting_seconds", "Age of the plan that waits longest.")
SLACK = Counter("remediator_slack_requests_total", "What Slack sent us, by what came of it.", ["outcome"])
MESSAGES = Counter("remediator_messages_total", "Messages of the outbox, by outcome.", ["outcome"])
COMMITS = Counter("remediator_ledger_commits_total", "Transactions of the ledger; calls share them.")
LEDGER_ERRORS = Counter("remediator_ledger_errors_total", "Ledger calls that could not be done.")
JOURNAL_BROKEN = Gauge("remediator_journal_broken", "1 once the chain was found broken.")
JOURNAL_SEQ = Gauge("remediator_journal_entries", "Entries in the journal.")
RELOADED = Gauge("remediator_reload_successful", "1 where the last reload was taken over.")
RULES = Gauge("remediator_rules", "Rules in the table.")
BREAKER = Gauge("remediator_breaker_open", "1 while a playbook's breaker is open.", ["playbook"])
STORM = Gauge("remediator_storm_hold", "1 while a storm of alerts holds everything.")
CANARY = Gauge(
    "remediator_canary_last_seen_timestamp_seconds", "When the end-to-end canary last came through."
)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage of the pipeline."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        STAGE.labels(name).observe(time.perf_counter() - begun)


class FiringSince(Collector):
    """Since when the alerts fire that we were told of, for the response-target alert."""

    def __init__(self) -> None:
        self._open: tuple[tuple[Mapping[str, str], datetime], ...] = ()

    def update(self, open_: Iterable[tuple[Mapping[str, str], datetime]]) -> None:
        """Replace what is told."""
        self._open = tuple(open_)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One series per alert name, system, severity and response class: the oldest of its instances."""
        family = GaugeMetricFamily(
            "remediator_alert_firing_since_timestamp_seconds",
            "When an alert that still fires began to.",
            labels=["alertname", "system", "severity", "response_class"],
        )
        oldest: dict[tuple[str, ...], float] = {}
        for labels, since in self._open:
            names = ("alertname", "system", "severity", "response_class")
            key = tuple(labels.get(name, "") for name in names)
            oldest[key] = min(oldest.get(key, float("inf")), since.timestamp())
        for key, since_seconds in oldest.items():
            family.add_metric(list(key), since_seconds)
        yield family


FIRING_SINCE = FiringSince()
REGISTRY.register(FIRING_SINCE)

_SECRET_NAME = re.compile(r"token|secret|password|authorization|cookie|api_key|credential", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"xox[abposr]-[A-Za-z0-9-]+|xapp-[A-Za-z0-9-]+|(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
REDACTED = "[redacted]"


REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Which request is being answered, for the logs. Setting it costs a tenth of what structlog's own binding costs."""


def redact(text: str) -> str:
    """Hide what looks like a credential, wherever it came from."""
    return _SECRET_TEXT.sub(REDACTED, text)


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if _SECRET_NAME.search(key):
            event[key] = REDACTED
        elif isinstance(value, str):
            event[key] = redact(value)
        elif not isinstance(value, (int, float, bool, type(None))):
            event[key] = redact(str(value))
    return event


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if id_ := REQUEST_ID.get():
        event.setdefault("request_id", id_)
    return event


def set_up_logs(level: str = "info", form: str = "json") -> None:
    """Structured logs on standard error, with every credential hidden. `form` is json or console."""
    render: Callable[..., Any] = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_event,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
