"""Alertmanager's routes, walked as Alertmanager does, also where a label is not known beforehand."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.coverage.routes import Routing, read_routing
from remediator.coverage.shapes import Shape
from remediator.errors import ConfigError
from remediator.web.config import WEBHOOK

ALERTMANAGER = Path(__file__).parents[2] / "alertmanager"
ROWS: list[dict[str, Any]] = yaml.safe_load((ALERTMANAGER / "tests" / "routes.yml").read_text())["rows"]

RECEIVERS = f"""\
receivers:
  - name: us
    webhook_configs:
      - url: http://remediator:8080{WEBHOOK}
        http_config: {{authorization: {{credentials_file: /token}}}}
  - name: people
"""


def routing(tmp_path: Path, route: str) -> Routing:
    """The routing of this route."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(route + RECEIVERS)
    return read_routing(path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(map(str, row["labels"].values())))
def test_the_shipped_routes_are_walked_as_amtool_does(row: dict[str, Any]) -> None:
    """For every row that amtool confirms, the receivers are the same, in the same order."""
    found = read_routing(ALERTMANAGER / "alertmanager.yml").taken_by(Shape(row["labels"]))

    assert list(dict.fromkeys(row["receivers"])) == list(dict.fromkeys(route.receiver for route in found))


@pytest.mark.parametrize(
    ("route", "shape", "expected"),
    [
        pytest.param("{receiver: us}", Shape(open=True), True, id="the-root"),
        pytest.param("{receiver: people}", Shape(open=True), False, id="the-root-is-not-ours"),
        pytest.param(
            "{receiver: us, routes: [{receiver: people, matchers: ['a=\"x\"']}]}",
            Shape({"a": "x"}),
            False,
            id="taken",
        ),
        pytest.param(
            "{receiver: us, routes: [{receiver: people, matchers: ['a=\"x\"']}]}",
            Shape({"a": "y"}),
            True,
            id="passed",
        ),
        pytest.param(
            "{receiver: us, routes: [{receiver: people, matchers: ['a=\"x\"']}]}",
            Shape({"a": None}),
            False,
            id="perhaps-taken",
        ),
        pytest.param(
            "{receiver: people, routes: [{receiver: us, continue: true}, {receiver: people}]}",
            Shape(open=True),
            True,
            id="continues",
        ),
        pytest.param(
            "{receiver: people, routes: [{receiver: people, continue: true, match: {a: x}}, {receiver: us}]}",
            Shape({"a": None}),
            True,
            id="continues-to-us",
        ),
        pytest.param(
            "{receiver: people, routes: [{receiver: us, match_re: {a: 'x|y'}}, {receiver: us, matchers: ['a!~\"x|y\"']}]}",
            Shape({"a": "z"}),
            True,
            id="the-old-syntax",
        ),
        pytest.param(
            "{receiver: us, routes: [{continue: true, routes: [{receiver: people}]}]}",
            Shape(open=True),
            False,
            id="a-child-without-a-receiver",
        ),
    ],
)
def test_whether_it_surely_reaches_us(tmp_path: Path, route: str, shape: Shape, expected: bool) -> None:
    """Only what reaches us whatever the unknown labels are is sure."""
    assert expected is routing(tmp_path, f"route: {route}\n").reaches_us(shape)


def test_what_a_route_inherits(tmp_path: Path) -> None:
    """Receiver and repeat_interval come from above; a mute time interval does not."""
    read = routing(
        tmp_path,
        "route:\n  receiver: us\n  repeat_interval: 30m\n  routes:\n"
        "    - {repeat_interval: 1d2h, mute_time_intervals: [night], routes: [{matchers: ['a=\"x\"']}]}\n",
    )

    root, child, grandchild = read.walk()
    assert ["us"] * 3 == [route.receiver for route in (root, child, grandchild)]
    assert timedelta(minutes=30) == root.repeat_interval
    assert timedelta(hours=26) == grandchild.repeat_interval
    assert (("night",), ()) == (child.quiet, grandchild.quiet)
    assert (5, 7) == (child.line, child.column)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("route: {receiver: us, matchers: ['nonsense']}\n", "is not a matcher", id="matcher"),
        pytest.param("route: {receiver: us, repeat_interval: soon}\n", "soon", id="duration"),
        pytest.param("receivers: []\n", "there is no route with a receiver", id="no-route"),
        pytest.param("route: [\n", "this is not YAML", id="no-yaml"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    """What keeps the routes from being walked is a finding, not a guess."""
    path = tmp_path / "alertmanager.yml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=rf"alertmanager\.yml:\d+:\d+: error: .*{expected}"):
        read_routing(path)
