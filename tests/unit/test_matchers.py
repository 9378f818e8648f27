"""Matchers: what they match, how they are written, and that amtool says the same of all of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from remediator.domain.matchers import Matcher, Operator, parse_matcher, parse_matchers
from tests.support.processes import program

AMTOOL = program("amtool", package="prometheus-alertmanager")
# Every example starts amtool several times, so a failing one is not shrunk; the odd cases below are short.
SLOW = settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NAMES = st.sampled_from(["alertname", "a", "b", "_c:d9"])
# What the syntax, YAML and RE2 each treat in a way of their own, and a few plain letters to meet by chance.
ATOMS = [*"abc", *'\\".*|()[]^$+?{},=~!- \n\t\fé😀\x0b\xa0\x85', "\\d", "\\n", '\\"', "\\\\", "(?i)", "a|b"]
VALUES = st.lists(st.sampled_from(ATOMS), max_size=5).map("".join)
LABELS = st.dictionaries(NAMES, st.one_of(VALUES, st.sampled_from(["a", "b", "ab", ""])), max_size=4)


@st.composite
def matchers(draw: st.DrawFn) -> Matcher:
    """A valid matcher."""
    try:
        return Matcher(draw(NAMES), draw(st.sampled_from(Operator)), draw(VALUES))
    except ValueError:
        assume(False)
        raise


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Something like a matcher, written in one of the ways that people write it; it may be wrong."""
    space = st.sampled_from(["", "", " ", "\t"])
    name = draw(st.one_of(NAMES, st.sampled_from(["", "9a", "a b", "a-b"])))
    operator = draw(st.sampled_from(["=", "!=", "=~", "!~", "==", "~", ""]))
    value = draw(VALUES)
    quote = draw(st.sampled_from(["", '"']))
    return draw(space) + name + draw(space) + operator + draw(space) + quote + value + quote + draw(space)


def config(folder: Path, name: str, routes: Sequence[Sequence[str]]) -> Path:
    """Write an Alertmanager configuration with one route and one receiver per list of matchers."""
    receivers = [f"r{index}" for index in range(len(routes))]
    tree = [
        {"receiver": receiver, "continue": True, "matchers": list(of_route)}
        for receiver, of_route in zip(receivers, routes, strict=True)
    ]
    path = folder / name
    whole = {
        "route": {"receiver": "none", "routes": tree},
        "receivers": [{"name": one} for one in ["none", *receivers]],
    }
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


def routed(path: Path, labels: Mapping[str, str]) -> set[str]:
    """Ask amtool which receivers an alert with these labels reaches."""
    given_ = [str(Matcher(name, Operator.EQUAL, value)) for name, value in labels.items()]
    argv = [AMTOOL, "config", "routes", "test", f"--config.file={path}", *given_]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    return set(said.split(",")) - {"none"}


def accepted(paths: Sequence[Path]) -> list[bool]:
    """Ask amtool which of the configurations are valid, in one call."""
    argv = [AMTOOL, "check-config", *map(str, paths)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    answers = [line for line in said.splitlines() if line.startswith("Checking '")]
    return ["  SUCCESS" in answer for answer in answers]


def ours(text: str) -> tuple[Matcher, ...] | None:
    """Our reading of a line of matchers; None where it is refused."""
    try:
        return parse_matchers(text)
    except ValueError:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the configurations that amtool is asked about."""
    return tmp_path_factory.mktemp("amtool")


@SLOW
@given(
    routes=st.lists(st.lists(matchers(), min_size=1, max_size=3), min_size=1, max_size=40),
    alerts=st.lists(LABELS, min_size=1, max_size=3),
)
def test_amtool_routes_as_we_match(
    folder: Path, routes: list[list[Matcher]], alerts: list[dict[str, str]]
) -> None:
    """An alert reaches a route exactly where all of the route's matchers hold for us."""
    path = config(folder, "routes.yml", [[str(matcher) for matcher in of_route] for of_route in routes])

    expected = [routed(path, labels) for labels in alerts]

    actual = [
        {f"r{i}" for i, of_route in enumerate(routes) if all(m.matches(labels) for m in of_route)}
        for labels in alerts
    ]
    assert expected == actual


@SLOW
@given(
    lines=st.lists(st.one_of(texts(), st.tuples(texts(), texts()).map(",".join)), min_size=30, max_size=60)
)
def test_amtool_reads_what_we_read(folder: Path, lines: list[str]) -> None:
    """Each line is accepted by both or refused by both, and where it is accepted it means the same."""
    taken = accepted([config(folder, f"{index}.yml", [[line]]) for index, line in enumerate(lines)])

    assert [ours(line) is not None for line in lines] == taken

    valid = [line for line in lines if ours(line)]
    path = config(folder, "valid.yml", [[line] for line in valid])
    for labels in ({}, {"a": "a", "b": "b"}, {"alertname": "ab", "a": "\n", "_c:d9": "\\"}):
        expected = routed(path, labels)
        assert expected == {
            f"r{i}" for i, line in enumerate(valid) if all(m.matches(labels) for m in ours(line) or ())
        }


ODD = [
    "a=}",
    "{a=b",
    "{a=b}",
    "{a=b}}",
    " {a=b}",
    "a=b} ",
    "a=\\",
    'a="\\"',
    'a=\\"',
    'a="b"c"',
    'a="b',
    'a=b"',
    "a=b,,c=d",
    "a=b,",
    ",a=b",
    "a=b, ",
    'a="b,c=d"',
    "a=\xa0b",
    "a=b\xa0",
    "a=b\xa0,c=d",
    "a\x0b=b",
    "a=\x85",
    "a=\x1c",
    "a=b\n",
    "a=~(?P<x>b)",
    "a=~(?=b)",
    "a=~b)(c",
    "a=~\\Qb.c\\E",
    "a=~\\pL",
    "a=~b{1001}",
    "a==~b",
    "a=!b",
    "é=b",
    "a-b=c",
    "",
    "{}",
]


def test_amtool_on_the_odd_cases(folder: Path) -> None:
    """The edges of the syntax, one by one: braces, quotes, commas, escapes, what counts as space, RE2's limits."""
    answers = accepted([config(folder, f"odd-{index}.yml", [[line]]) for index, line in enumerate(ODD)])

    assert [(line, ours(line) is not None) for line in ODD] == list(zip(ODD, answers, strict=True))

    valid = [line for line in ODD if ours(line)]
    path = config(folder, "odd.yml", [[line] for line in valid])
    for value in ("b", "}", "\\", '"', "\xa0b", "b\xa0", "\x85", "\x1c", "b,c=d", "=~b", "!b", "b}", "é"):
        labels = {"a": value, "c": "d"}
        expected = routed(path, labels)
        assert expected == {
            f"r{i}" for i, line in enumerate(valid) if all(m.matches(labels) for m in ours(line) or ())
        }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param('{a="b"}', [Matcher("a", Operator.EQUAL, "b")], id="braces"),
        pytest.param("a=b", [Matcher("a", Operator.EQUAL, "b")], id="bare"),
        pytest.param(' a != "" ', [Matcher("a", Operator.NOT_EQUAL, "")], id="spaces"),
        pytest.param(
            'a=~"x,y",b!~z',
            [Matcher("a", Operator.REGEX, "x,y"), Matcher("b", Operator.NOT_REGEX, "z")],
            id="a-comma-in-quotes",
        ),
        pytest.param(r'a="\\n\"\n\d"', [Matcher("a", Operator.EQUAL, '\\n"\n\\d')], id="escapes"),
        pytest.param('a="b",', [Matcher("a", Operator.EQUAL, "b")], id="a-comma-at-the-end"),
        pytest.param(
            '"a b"="c"', [Matcher("a b", Operator.EQUAL, "c")], id="a-quoted-name-of-later-releases"
        ),
        pytest.param("", [], id="nothing"),
    ],
)
def test_reading(line: str, expected: list[Matcher]) -> None:
    """A line of matchers, in the ways that people write it."""
    assert expected == list(parse_matchers(line))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param("severity", "is not a matcher", id="no-operator"),
        pytest.param('severity == "x"y', "unescaped quote", id="a-quote-inside"),
        pytest.param('severity="x', "does not close", id="an-open-quote"),
        pytest.param('severity=~"("', "is not a regular expression", id="no-regular-expression"),
        pytest.param('severity=~"(?=x)"', "is not a regular expression", id="perl-is-not-RE2"),
        pytest.param('""="x"', "empty label name", id="an-empty-name"),
        pytest.param('a="b",,c="d"', "is not a matcher", id="two-commas"),
    ],
)
def test_refusing(line: str, complaint: str) -> None:
    """What is no matcher is refused in words that say why."""
    with pytest.raises(ValueError, match=complaint):
        parse_matchers(line)


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        pytest.param('a="b"', {"a": "b"}, True, id="equal"),
        pytest.param('a="b"', {"a": "bb"}, False, id="equal-is-whole"),
        pytest.param('a=""', {}, True, id="absent-is-empty"),
        pytest.param('a!="b"', {}, True, id="absent-is-not-b"),
        pytest.param('a=~".*"', {}, True, id="absent-matches-what-empty-does"),
        pytest.param('a=~".+"', {}, False, id="absent-is-not-something"),
        pytest.param('a!~"b.*"', {}, True, id="absent-does-not-match"),
        pytest.param('a=~"b"', {"a": "abc"}, False, id="anchored"),
        pytest.param('a=~"b|c"', {"a": "bc"}, False, id="anchored-around-alternatives"),
        pytest.param('a=~"b"', {"a": "b\n"}, False, id="a-newline-at-the-end-counts"),
        pytest.param('a=~"b.c"', {"a": "b\nc"}, False, id="a-dot-is-no-newline"),
    ],
)
def test_matching(text: str, labels: dict[str, str], expected: bool) -> None:
    """Alertmanager's meaning of each operator, at its edges."""
    assert expected is parse_matcher(text).matches(labels)


@given(matcher=matchers())
def test_what_is_written_is_read_again(matcher: Matcher) -> None:
    """A matcher's text is read as the same matcher, whatever is in its value."""
    assert matcher == parse_matcher(str(matcher))
