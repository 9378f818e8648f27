"""The contract of http.check, against real HTTP servers of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from remediator.actions.http import Check, HttpConnection
from remediator.domain.plans import Progress
from remediator.errors import Drifted, PermanentFailure
from tests.support import call_cases
from tests.support.call_cases import Case
from tests.support.cutline import CutLine, When
from tests.support.ports import free_port

contract = pytest.mark.contract
KIND = "http.check"


@dataclass
class Site:
    """A server that answers as the test says, and notes what it was asked."""

    port: int = field(default_factory=free_port)
    statuses: list[int] = field(default_factory=list)
    body: str = '{"status": "ok", "models": [{"ready": true}]}'
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The next of the statuses, the last one for ever."""
        self.asked.append(f"{request.method} {request.path_qs}")
        self.headers = dict(request.headers)
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/health"})
        status = self.statuses.pop(0) if len(self.statuses) > 1 else (self.statuses or [200])[0]
        return web.Response(status=status, text=self.body)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """It, listening."""
    made = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    yield made
    await runner.cleanup()


@pytest.fixture
def case(site: Site) -> Case:
    """A check of its health, in words and in JSON."""

    async def look() -> object:
        return (site.body, site.statuses)

    async def spoil() -> None:
        raise AssertionError("a check has a test of its own for that")

    return Case(
        action=Check,
        port=site.port,
        settings=lambda url: {"kind": "http", "base_url": url, "paths": ["/health", "/moved"]},
        params={
            "path": "/health",
            "body_pattern": '"status": *"ok"',
            "json_pointer": "/models/0/ready",
            "json_value": True,
            "within_seconds": 3,
            "every_seconds": 0.05,
            "passes": 2,
        },
        look=look,
        done=lambda before, after: before == after,
        spoil=spoil,
        hostile=(
            *(
                {"path": path}
                for path in (
                    "",
                    "/",
                    "/admin",
                    "/health/../admin",
                    "//evil.example/",
                    "http://evil.example/",
                    "/health?x=1",
                    "/health\n",
                )
            ),
            {"status": 99},
            {"body_pattern": "("},
            {"body_pattern": ""},
            {"json_pointer": "models"},
            {"json_pointer": None},
            {"within_seconds": 1e9},
            {"within_seconds": float("nan")},
            {"passes": 0},
            {"url": "http://evil.example"},
        ),
        trigger=b"GET /health",
        reads=True,
    )


@contract(KIND, "plan")
async def test_a_plan_changes_nothing(case: Case) -> None:
    """A plan tells what is asked for and what it says now."""
    await call_cases.check_plan(case)


@contract(KIND, "apply")
async def test_apply_asks_until_it_is_good(case: Case, site: Site) -> None:
    """Bad answers first, then as many good ones in a row as are asked for; only GETs of that path."""
    site.statuses = [503, 200, 503, 200, 200]
    async with case.acting() as action:
        effect = (action.plan(case.parameters(), await action.observe(case.parameters())))[0]
        result = await action.apply(effect)

    assert not result.changed
    assert {"GET /health"} == set(site.asked)
    assert 4 == result.evidence["http"]["tries"]
    assert 200 == result.evidence["http"]["status"]


@contract(KIND, "reapply")
async def test_a_second_check_is_as_the_first(case: Case) -> None:
    """Again it only reads."""
    await call_cases.check_reapply(case)


@contract(KIND, "stale")
async def test_another_server_than_planned_on_is_refused(case: Case, site: Site) -> None:
    """Where the connection leads elsewhere meanwhile, nothing is asked."""
    async with case.acting() as action:
        effect = await case.planned(action)
        asked = list(site.asked)
        with pytest.raises(Drifted):
            await action.apply(replace(effect, before={"url": "http://127.0.0.1:1/health"}))

    assert asked == site.asked


@contract(KIND, "undo")
async def test_there_is_nothing_to_undo(case: Case) -> None:
    """It refuses."""
    await call_cases.check_undo(case)


@contract(KIND, "hostile")
async def test_hostile_parameters_are_refused(case: Case) -> None:
    """Other paths and other hosts are not reached."""
    await call_cases.check_hostile(case)


@contract(KIND, "dies")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_server_that_dies_is_not_healthy(case: Case, when: When) -> None:
    """A server that hangs up, for good, is a failure that says so."""
    params = case.parameters(within_seconds=0.2)
    async with (
        CutLine(case.port, trigger=case.trigger, when=when) as line,
        case.acting(f"http://127.0.0.1:{line.port}") as action,
    ):
        effect = action.plan(params, await action.observe(params))[0]
        with pytest.raises(PermanentFailure, match="no answer"):
            await action.apply(effect)
    assert Progress.UNTOUCHED is action.progress(effect, await action.observe(params))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"status": 204}, "answers 200, expected 204", id="status"),
        pytest.param({"body_pattern": "sick"}, "expected text", id="pattern"),
        pytest.param({"json_value": 1}, "/models/0/ready is not 1", id="true-is-not-1"),
        pytest.param({"json_pointer": "/models/7/ready"}, "no JSON", id="no-such-place"),
        pytest.param({"path": "/moved"}, "answers 302.*not followed", id="redirect"),
        pytest.param({"passes": 60, "within_seconds": 0.2}, "good", id="not-often-enough"),
    ],
)
async def test_what_is_not_healthy(case: Case, site: Site, change: dict[str, object], told: str) -> None:
    """Each makes the step fail for good, with the reason and without the body."""
    params = case.parameters(**{"within_seconds": 0.2, **change})
    async with case.acting() as action:
        effect = action.plan(params, await action.observe(params))[0]
        with pytest.raises(PermanentFailure, match=told) as failed:
            await action.apply(effect)

    assert site.body not in str(failed.value)


async def test_headers_come_from_files(site: Site, tmp_path: Path) -> None:
    """A header is read from its file at each call; a file of two lines is refused and not sent."""
    file = tmp_path / "key"
    file.write_text("abc123\n")
    given = {
        "kind": "http",
        "base_url": f"http://127.0.0.1:{site.port}",
        "paths": ["/health"],
        "header_files": {"X-Key": str(file)},
    }
    action = Check(HttpConnection.model_validate(given))
    params = Check.Params.model_validate({"connection": "it", "path": "/health"})
    await action.observe(params)  # type: ignore[arg-type]
    assert "abc123" == site.headers["X-Key"]
    file.write_text("abc\r\nEvil: 1\n")
    with pytest.raises(PermanentFailure):
        await action.observe(params)  # type: ignore[arg-type]
