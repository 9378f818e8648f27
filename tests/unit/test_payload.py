"""The webhook payload: what is demanded, and nothing more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from remediator.domain.alerts import Alert, Status
from remediator.errors import BadPayload
from remediator.pipeline.payload import Fingerprints, parse, to_alert
from remediator.testing import make_alert, make_payload

BODY: dict[str, Any] = json.loads(make_payload(make_alert()))


def without(*path: str | int) -> bytes:
    """The body without one field."""
    body = json.loads(json.dumps(BODY))
    holder = body
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]
    return json.dumps(body).encode()


def only(body: bytes) -> Alert:
    """The one alert of a body."""
    (model,) = parse(body).alerts
    return to_alert(model, Fingerprints())


def with_(value: Any, *path: str | int) -> bytes:
    """The body with one field changed."""
    body = json.loads(json.dumps(BODY))
    holder = body
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(without("truncatedAlerts"), id="no-truncatedAlerts"),
        pytest.param(without("commonLabels"), id="no-commonLabels"),
        pytest.param(without("groupLabels"), id="no-groupLabels"),
        pytest.param(without("externalURL"), id="no-externalURL"),
        pytest.param(without("alerts", 0, "fingerprint"), id="no-fingerprint"),
        pytest.param(without("alerts", 0, "endsAt"), id="no-endsAt"),
        pytest.param(without("alerts", 0, "annotations"), id="no-annotations"),
        pytest.param(with_("first notification", "notification_reason"), id="a-field-of-0.32"),
        pytest.param(with_({"team": "x"}, "routeLabels"), id="a-field-of-0.34"),
        pytest.param(with_({"x": [1]}, "somethingNew"), id="an-unknown-field"),
        pytest.param(with_("web\\.hook", "receiver"), id="a-quoted-receiver"),
    ],
)
def test_taken(body: bytes) -> None:
    """What real senders leave out or add does not matter."""
    assert 1 == len(parse(body).alerts)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        pytest.param(b"", "body", id="empty"),
        pytest.param(b"[]", "body", id="a-list"),
        pytest.param(b"{not json", "body", id="not-json"),
        pytest.param(b"\xff\xfe", "body", id="not-utf-8"),
        pytest.param(with_("3", "version"), "version", id="another-version"),
        pytest.param(without("version"), "version", id="no-version"),
        pytest.param(with_("", "groupKey"), "groupKey", id="empty-group-key"),
        pytest.param(without("receiver"), "receiver", id="no-receiver"),
        pytest.param(with_("unknown", "status"), "status", id="unknown-status"),
        pytest.param(with_([], "alerts"), "alerts", id="no-alerts"),
        pytest.param(with_("pending", "alerts", 0, "status"), "alerts.0.status", id="unknown-alert-status"),
        pytest.param(with_({}, "alerts", 0, "labels"), "alerts.0.labels", id="empty-labels"),
        pytest.param(
            with_({"a": 1}, "alerts", 0, "labels"), "alerts.0.labels.a", id="a-label-that-is-no-text"
        ),
        pytest.param(with_("yesterday", "alerts", 0, "startsAt"), "alerts.0.startsAt", id="no-time"),
        pytest.param(
            with_("2026-01-01T00:00:00", "alerts", 0, "startsAt"), "alerts.0.startsAt", id="no-time-zone"
        ),
        pytest.param(with_(-1, "truncatedAlerts"), "truncatedAlerts", id="negative"),
    ],
)
def test_refused(body: bytes, place: str) -> None:
    """What can never work is refused, and the reason names the place."""
    with pytest.raises(BadPayload, match=place.replace(".", r"\.")):
        parse(body)


def test_identity_is_computed_from_the_labels() -> None:
    """A wrong fingerprint and contradicting common labels in the payload change nothing."""
    expected = make_alert()
    body = json.loads(with_("0000000000000000", "alerts", 0, "fingerprint"))
    body["commonLabels"] = {"alertname": "SomethingElse"}

    alert = only(json.dumps(body).encode())

    assert (expected.fingerprint, expected.labels, expected.episode) == (
        alert.fingerprint,
        alert.labels,
        alert.episode,
    )


def test_the_top_level_status_is_not_trusted() -> None:
    """max_alerts is cut before it is computed: each alert's own status counts."""
    assert Status.FIRING is only(with_("resolved", "status")).status


def test_two_peers_agree_on_the_episode() -> None:
    """The same start, written in another time zone, is the same episode."""
    local = with_("2026-01-15T13:00:00+01:00", "alerts", 0, "startsAt")

    episodes = {only(body).episode for body in (make_payload(make_alert()), local)}

    assert 1 == len(episodes)


def test_known_fingerprints_are_bounded() -> None:
    """The cache forgets the oldest, and is right whether it remembers or not."""
    known = Fingerprints(size=2)
    label_sets = [{"a": str(n)} for n in range(5)]
    first = [known.of(labels) for labels in label_sets]

    assert first == [known.of(labels) for labels in label_sets]
    assert 5 == len(set(first))
