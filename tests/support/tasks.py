"""A test that leaves an asyncio task running has a leak, and fails."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

GRACE = 0.25
"""Seconds in which a task that was cancelled in a test's last line may still end."""


class LeakedTaskError(AssertionError):
    """Tasks were still running when their test had ended. The message names them and where they wait."""


def _watch(scope: str) -> Callable[[], AsyncIterator[None]]:
    @pytest_asyncio.fixture(loop_scope=scope, name=f"tasks_of_{scope}_loop")  # type: ignore[call-overload,untyped-decorator,unused-ignore]
    async def tasks() -> AsyncIterator[None]:
        before = asyncio.all_tasks()
        yield
        me = asyncio.current_task()
        leaked = {task for task in asyncio.all_tasks() - before if task is not me}
        if leaked:
            _, leaked = await asyncio.wait(leaked, timeout=GRACE)
        if leaked:
            for task in leaked:
                task.cancel()
            raise LeakedTaskError("\n".join(["the test left tasks running:", *sorted(map(_where, leaked))]))

    return tasks  # type: ignore[no-any-return,unused-ignore]


tasks_of_function_loop = _watch("function")
tasks_of_module_loop = _watch("module")
tasks_of_session_loop = _watch("session")


@pytest.fixture(autouse=True)
def no_leaked_tasks(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task behind; in the event loop that its `loop_scope` says."""
    if not inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        return
    marker = request.node.get_closest_marker("asyncio")
    scope = marker.kwargs.get("loop_scope", "function") if marker else "function"
    request.getfixturevalue(f"tasks_of_{scope}_loop")


def _where(task: asyncio.Task[object]) -> str:
    frames = task.get_stack(limit=1)
    place = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "not started"
    return f"  {task.get_name()} {task.get_coro()!r} at {place}"
