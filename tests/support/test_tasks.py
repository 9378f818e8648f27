"""The watch on leaked tasks sees a leak, and nothing else."""

import asyncio

import pytest

pytest_plugins = ["pytester"]

OPTIONS = (
    "-p",
    "tests.support.tasks",
    "-o",
    "asyncio_mode=auto",
    "-o",
    "asyncio_default_fixture_loop_scope=function",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
)


def test_leak_fails(pytester: pytest.Pytester) -> None:
    """A task that is left running fails its test and is named."""
    pytester.makepyfile(
        """
        import asyncio

        async def test_leaks():
            globals()["kept"] = asyncio.create_task(asyncio.sleep(1000), name="forgotten")
        """
    )

    result = pytester.runpytest_inprocess(*OPTIONS)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*LeakedTaskError: the test left tasks running:*", "*forgotten*"])


@pytest.mark.parametrize("scope", ["function", "module", "session"])
def test_leak_in_a_longer_lived_loop_fails(pytester: pytest.Pytester, scope: str) -> None:
    """The watch looks in the loop that the test runs in, whatever its scope."""
    pytester.makepyfile(
        f"""
        import asyncio
        import pytest

        @pytest.mark.asyncio(loop_scope="{scope}")
        async def test_leaks():
            globals()["kept"] = asyncio.create_task(asyncio.sleep(1000))

        @pytest.mark.asyncio(loop_scope="{scope}")
        async def test_tidy():
            await asyncio.sleep(0)
        """
    )

    result = pytester.runpytest_inprocess(*OPTIONS)

    result.assert_outcomes(passed=2, errors=1)


async def test_ended_task_is_no_leak() -> None:
    """A task that was cancelled and awaited is no leak."""
    task = asyncio.create_task(asyncio.sleep(1000))
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_ending_task_is_no_leak() -> None:
    """A task that was cancelled in the last line has the time to end."""
    task = asyncio.create_task(asyncio.sleep(1000))
    await asyncio.sleep(0)
    task.cancel()
