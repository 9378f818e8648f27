"""http.check: what its pure part makes of an answer."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.actions.http import CheckParams, HttpConnection, judge
from remediator.httpcalls import Answer

BODY = b'{"a/b": {"list": [1, true, null, "x"]}}'


@pytest.mark.parametrize(
    ("pointer", "value", "expected"),
    [
        ("/a~1b/list/0", 1, ""),
        ("/a~1b/list/0", True, "/a~1b/list/0 is not True"),
        ("/a~1b/list/1", True, ""),
        ("/a~1b/list/2", None, ""),
        ("/a~1b/list/3", "x", ""),
        ("/a~1b/list/-1", "x", "the body has no JSON with /a~1b/list/-1"),
        ("/a~1b/list/0/deeper", 1, "the body has no JSON with /a~1b/list/0/deeper"),
    ],
)
def test_json_is_compared_as_json(pointer: str, value: object, expected: str) -> None:
    """True is not 1, an index is a natural number, and what is not there is a fault."""
    params = CheckParams.model_validate(
        {"connection": "it", "path": "/", "json_pointer": pointer, "json_value": value}
    )

    assert expected == judge(params, Answer(200, BODY))


def test_a_body_that_is_cut_off_is_no_json() -> None:
    """What was not read whole is not compared."""
    params = CheckParams.model_validate({"connection": "it", "path": "/", "json_pointer": "/a"})

    assert "longer" in judge(params, Answer(200, b"{", whole=False))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://u:p@x", "http://x?a=1", "http://x#y", "/x"])
def test_base_urls(url: str) -> None:
    """No credentials, no query, no other scheme."""
    with pytest.raises(ValidationError):
        HttpConnection.model_validate({"kind": "http", "base_url": url, "paths": ["/"]})


@pytest.mark.parametrize("paths", [[], ["health"], ["/a/../b"], ["/a?x"], ["/a b"]])
def test_paths(paths: list[str]) -> None:
    """Plain paths only."""
    with pytest.raises(ValidationError):
        HttpConnection.model_validate({"kind": "http", "base_url": "http://x", "paths": paths})
