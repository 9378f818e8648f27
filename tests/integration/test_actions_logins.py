"""prometheus.snapshot_query and http.check on a real Prometheus that lets nobody in without a password."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remediator.actions.http import Check, HttpConnection
from remediator.actions.prometheus import PrometheusConnection, SnapshotQuery
from remediator.errors import PermanentFailure, TemporaryFailure
from tests.support.http_line import HttpLine
from tests.support.ports import free_port
from tests.support.processes import http_answers
from tests.support.prometheus import PrometheusServer
from tests.support.waiting import until

contract = pytest.mark.contract
PASSWORD = "open-sesame-1"
HASHED = "$2b$04$M8PLV7szFhnEM6tQh6NOnOJGt4LcCC8TbmjHzPCIPtksayDcQD9gC"
"""The same with bcrypt, as Prometheus wants it in its web configuration."""


@pytest.fixture
def prometheus(
    tmp_path: Path, prometheus_server_factory: Callable[..., PrometheusServer]
) -> PrometheusServer:
    """Behind basic authentication from the moment that it is ready: it reads its web configuration at each call."""
    web = tmp_path / "web.yml"
    web.write_text("{}\n")
    server = prometheus_server_factory({}, flags=[f"--web.config.file={web}"])
    web.write_text(f'basic_auth_users: {{reader: "{HASHED}"}}\n')
    until(lambda: not http_answers(f"{server.url}/-/healthy"), what="Prometheus to ask for a password")
    return server


async def _asked(password: Path, url: str, **more: Any) -> int:
    """Plan and apply one query; how many samples were kept."""
    given = {"kind": "prometheus", "url": url, "queries": {"one": "vector(1)"}}
    login = {"username": "reader", "password_file": password, **more}
    connection = PrometheusConnection.model_validate(
        {**given, **{k: v for k, v in login.items() if v is not None}}
    )
    action = SnapshotQuery(connection)
    params = action.Params.model_validate({"connection": "it", "queries": ["one"]})
    (effect,) = action.plan(params, await action.observe(params))  # type: ignore[arg-type]
    kept = (await action.apply(effect)).evidence["prometheus"]["one"]["samples"]
    return len(kept)


@contract("prometheus.snapshot_query", "privilege")
async def test_a_query_needs_the_password_and_no_more(tmp_path: Path, prometheus: PrometheusServer) -> None:
    """With it the samples are kept; with another password, another user or nobody's name they are not."""
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    assert 1 == await _asked(password, prometheus.url)
    for wrong in ({"username": "writer"}, {"username": None, "password_file": None}):
        with pytest.raises(PermanentFailure, match="401"):
            await _asked(password, prometheus.url, **wrong)
    password.write_text(PASSWORD[:-1] + "\n")
    with pytest.raises(PermanentFailure, match="401"):
        await _asked(password, prometheus.url)


@contract("prometheus.snapshot_query", "privilege")
async def test_a_query_needs_the_printed_call_and_no_more(
    tmp_path: Path, prometheus_server_factory: Callable[..., PrometheusServer]
) -> None:
    """Through a proxy with a token that lets only the printed call pass; without it there are no samples."""
    token = tmp_path / "token"
    token.write_text(PASSWORD + "\n")
    login = {"username": None, "password_file": None, "token_file": token}
    server = prometheus_server_factory({})
    async with HttpLine(server.url, token=PASSWORD) as line:
        connection = PrometheusConnection(kind="prometheus", url=line.url, queries={"one": "vector(1)"})
        params = SnapshotQuery.Params.model_validate({"connection": "it", "queries": ["one"]})
        line.allow = SnapshotQuery(connection).permissions(params).http  # type: ignore[arg-type]
        assert 1 == await _asked(token, line.url, **login)
        line.allow = ()
        with pytest.raises(PermanentFailure, match="403"):
            await _asked(token, line.url, **login)


@contract("http.check", "privilege")
async def test_a_check_needs_its_header_and_no_more(tmp_path: Path, prometheus: PrometheusServer) -> None:
    """With the header of the user and password the page is healthy; with another or without one it is not."""
    header = tmp_path / "authorization"
    given = {"kind": "http", "base_url": prometheus.url, "paths": ["/-/healthy"]}

    async def checked(**more: Any) -> str:
        action = Check(HttpConnection.model_validate({**given, **more}))
        params = action.Params.model_validate({"connection": "it", "path": "/-/healthy", "within_seconds": 0})
        (effect,) = action.plan(params, await action.observe(params))  # type: ignore[arg-type]
        return (await action.apply(effect)).summary

    with_it = {"header_files": {"Authorization": str(header)}}
    header.write_text(_basic("reader", PASSWORD))
    assert "answers 200" in await checked(**with_it)
    header.write_text(_basic("reader", PASSWORD[:-1]))
    with pytest.raises(PermanentFailure, match="answers 401"):
        await checked(**with_it)
    with pytest.raises(PermanentFailure, match="answers 401"):
        await checked()


async def test_a_password_goes_nowhere_else(tmp_path: Path) -> None:
    """Where nobody answers, the failure does not tell the password."""
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    with pytest.raises(TemporaryFailure, match="cannot be reached") as raised:
        await _asked(password, f"http://127.0.0.1:{free_port()}")

    assert PASSWORD not in str(raised.value)


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}\n"
