"""prometheus.snapshot_query: the pure part."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.actions.prometheus import PrometheusConnection, Samples, SnapshotQuery, SnapshotQueryParams
from remediator.domain.plans import Progress

HERE = PrometheusConnection(
    kind="prometheus", url="http://prometheus:9090", queries={"errors": "sum(errors)"}
)


def test_the_plan_says_what_is_asked() -> None:
    """It names the queries and how many samples they gave, and that nothing changes."""
    (effect,) = SnapshotQuery(HERE).plan(
        SnapshotQueryParams(connection="it", queries=("errors",)), Samples({"errors": 3})
    )

    assert "errors (3 samples)" in effect.summary
    assert "nothing is changed" in effect.summary
    assert Progress.UNTOUCHED is SnapshotQuery(HERE).progress(effect, Samples({}))


@pytest.mark.parametrize("queries", [(), ("Errors",), ("a b",), ("../x",)])
def test_a_query_is_a_name(queries: tuple[str, ...]) -> None:
    """An expression is never given by a playbook: it chooses among the connection's by name."""
    with pytest.raises(ValidationError):
        SnapshotQueryParams(connection="it", queries=queries)


@pytest.mark.parametrize(
    "login",
    [
        {"username": "reader"},
        {"password_file": "/run/secrets/password"},
        {"username": "reader", "password_file": "/run/secrets/password", "token_file": "/run/secrets/token"},
        {"username": "reader:secret", "password_file": "/run/secrets/password"},
    ],
)
def test_one_way_in(login: dict[str, str]) -> None:
    """A user has a password file, and no token beside it; a password never stands in the name."""
    with pytest.raises(ValidationError):
        PrometheusConnection.model_validate({**HERE.model_dump(), **login})
