"""The contract that every action keeps, as marks on its integration tests, and the table at the end of a run.

@pytest.mark.contract("docker.restart", "reapply")
async def test_a_second_restart_of_the_same_run_does_nothing(...): ...

each = each_of(MAKERS)
@each("reapply")
async def test_a_second_apply_does_nothing(kind, ...): ...
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest

CHECKS = {
    "plan": "the plan shows the true effect, in figures, and changes nothing",
    "apply": "apply does just that",
    "reapply": "a second apply of the same effect does nothing",
    "stale": "a plan that a change made stale is refused",
    "undo": "undo restores, or says that nothing can",
    "hostile": "hostile parameters are refused",
    "dies": "the server dies in the middle: the outcome is a defined one",
    "privilege": "the printed privilege is enough, and one less is not (where the server enforces it)",
}


def each_of(kinds: Iterable[str]) -> Callable[..., pytest.MarkDecorator]:
    """What `each(check)` is for a module: its test runs for each of these kinds, and shows this check of the contract.

    `each(check, some)` does so for some kinds only.
    """
    every = tuple(kinds)

    def each(check: str, only: Iterable[str] = every) -> pytest.MarkDecorator:
        return pytest.mark.parametrize(
            "kind", [pytest.param(kind, marks=pytest.mark.contract(kind, check), id=kind) for kind in only]
        )

    return each


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers", "contract(kind, check): which cell of the table action x contract this shows"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Carry the marks in the reports, so that they survive pytest-xdist."""
    for item in items:
        for mark in item.iter_markers("contract"):
            kind, check = mark.args
            if check not in CHECKS:
                raise pytest.UsageError(
                    f"{item.nodeid}: {check!r} is no check of the contract ({', '.join(CHECKS)})"
                )
            item.user_properties.append(("contract", f"{kind} {check}"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print action x contract, a letter a cell: + passed, F failed, . not shown in this run."""
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    for outcome, sign in (("passed", "+"), ("failed", "F"), ("error", "F")):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "contract":
                    kind, check = value.split(" ")
                    cells[kind][check] = sign
    if not cells:
        return
    terminalreporter.section("action x contract")
    width = max(len(kind) for kind in cells)
    terminalreporter.line(" " * width + "  " + "  ".join(CHECKS))
    for kind in sorted(cells):
        row = "  ".join(cells[kind].get(check, ".").center(len(check)) for check in CHECKS)
        terminalreporter.line(f"{kind:<{width}}  {row}")
