"""People told on a terminal: the plan once, then a line for each change, and nothing that steers the terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from remediator.adapters.console import ConsoleMessenger
from remediator.domain.remediations import Phase, Remediation
from remediator.pipeline.ports import Message, Outgoing
from remediator.redaction import Redactor
from tests.unit.test_slack_blocks import PLAN, WAITING


class Terminal:
    """A messenger on a terminal of 120 columns, and what was printed there since the last look."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        console = Console(file=self._file, width=120, force_terminal=True, color_system=None)
        self.messenger = ConsoleMessenger(console, Redactor(["hunter-2-hunter"]), "http://localhost:8080")

    async def tell(self, remediation: Remediation, kind: str = "card", **data: object) -> str:
        """Deliver, and return what that printed."""
        start = self._file.tell()
        ref = await self.messenger.deliver(Outgoing(1, remediation, Message(kind, data), ""))
        assert ref == f"console:{remediation.id}"
        return self._file.getvalue()[start:]


async def test_the_plan_is_printed_once() -> None:
    """First the whole plan with its figures and digest; a change of phase is one line."""
    terminal = Terminal()

    first = await terminal.tell(WAITING)
    second = await terminal.tell(replace(WAITING, phase=Phase.REMEDIATED, reason="verified"))

    for told in (
        "awaiting approval: CacheHitRateLow on redis-1",
        "UNLINK 12,340 keys under seg: (1.2 GB) in db 0",
        "keys 12,340 (at most 14,808) · bytes 1.2 GB",
        "cannot be undone",
        "nothing to take back",
        "undo: scale worker to 1 again",
        "may decide: devops",
        PLAN.digest,
        "http://localhost:8080/remediations/0123456789ab",
    ):
        assert told in first
    assert second == "remediated: CacheHitRateLow on redis-1 (verified)\n"


async def test_another_plan_is_printed_again() -> None:
    """The world moved: what is to be decided now is another plan."""
    terminal = Terminal()
    await terminal.tell(WAITING)

    again = await terminal.tell(replace(WAITING, plan=replace(PLAN, playbook="another")))

    assert "UNLINK 12,340 keys" in again


async def test_what_has_no_plan_is_a_line() -> None:
    """Held back before anything was planned."""
    held = replace(WAITING, phase=Phase.MATCHED, plan=None, reason="paused: migration")

    assert await Terminal().tell(held) == "matched: CacheHitRateLow on redis-1 (paused: migration)\n"


async def test_an_escalation_names_who_has_to_come() -> None:
    """With the reason and the evidence."""
    told = await Terminal().tell(
        WAITING, "escalation", to=["redis-oncall"], reason="no sample", evidence=["12 keys"]
    )

    for text in ("redis-oncall, please take over: CacheHitRateLow on redis-1", "no sample", "• 12 keys"):
        assert text in told


@pytest.mark.parametrize(
    "nasty", ["\x1b[2J\x1b]0;owned\x07", "[red]not red[/red]", "\u202egnihtemos", "a\rb", "\x9b31m"], ids=repr
)
async def test_nothing_from_outside_steers_the_terminal(nasty: str) -> None:
    """Escape sequences, markup and direction overrides of an alert are text like any other."""
    told = await Terminal().tell(
        replace(WAITING, subject=nasty, annotations={"summary": nasty}, reason=nasty)
    )

    assert not [char for char in told if ord(char) < 32 and char != "\n"]
    assert not [char for char in told if char in "\x7f\x9b\u202e"]
    if nasty.startswith("[red]"):
        assert "[red]not red[/red]" in told


async def test_no_secret_is_printed() -> None:
    """The terminal's scroll-back is a place too."""
    told = await Terminal().tell(replace(WAITING, annotations={"summary": "redis://u:hunter-2-hunter@db"}))

    assert "hunter-2-hunter" not in told
