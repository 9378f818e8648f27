"""People told on the terminal, where Slack is not set up: each plan in full, then a line for each change."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from remediator.domain.plans import Effect, Plan
from remediator.domain.remediations import Phase, Remediation
from remediator.figures import figures
from remediator.pipeline.ports import Outgoing
from remediator.redaction import Redactor

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

REMEMBERED = 1000
"""Remediations whose plan is not printed again, at most."""

COLOURS: Mapping[Phase, str] = {
    Phase.AWAITING_APPROVAL: "yellow",
    Phase.SUGGESTED: "magenta",
    Phase.REMEDIATED: "green",
    Phase.INEFFECTIVE: "red",
    Phase.FAILED: "red",
    Phase.EXPIRED: "red",
    Phase.UNKNOWN: "red",
    Phase.ESCALATING: "red",
}


class ConsoleMessenger:
    """Prints cards. What came from outside is printed as text: no markup, and nothing that steers a terminal."""

    def __init__(
        self, console: Console | None = None, redact: Redactor | None = None, page: str = ""
    ) -> None:
        self._console = console or Console(stderr=True)
        self._redact = redact or Redactor()
        self._page = page.rstrip("/")
        self._shown: OrderedDict[str, str] = OrderedDict()

    async def deliver(self, outgoing: Outgoing) -> str:
        """Print it; the plan only when it is new."""
        remediation = outgoing.remediation
        digest = remediation.plan.digest if remediation.plan else ""
        if outgoing.message.kind == "escalation":
            self._console.print(self._escalation(outgoing))
        elif remediation.plan is not None and self._shown.get(remediation.id) != digest:
            self._console.print(self._card(remediation, remediation.plan))
        else:
            self._console.print(self._line(remediation))
        self._shown[remediation.id] = digest
        while len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        return f"console:{remediation.id}"

    async def close(self) -> None:
        """Nothing to let go."""

    def _card(self, remediation: Remediation, plan: Plan) -> RenderableType:
        colour = COLOURS.get(remediation.phase, "cyan")
        body: list[Text] = [self._facts(remediation)]
        summary = remediation.annotations.get("summary", "")
        if summary:
            body.append(self._text(summary))
        body.append(Text())
        body += [self._text(f"☐ {line}") for line in plan.checklist]
        for step in plan.steps:
            for effect in step.effects:
                body.append(self._text(f"• {effect.summary}", "bold"))
                sizes = figures(effect.figures, effect.at_most)
                body.append(self._text(f"  {effect.action}{f' · {sizes}' if sizes else ''}", "dim"))
                body.append(self._undo(effect))
        body += [Text(), self._text(f"digest {plan.digest}", "dim")]
        if self._page:
            body.append(self._text(f"{self._page}/remediations/{remediation.id}", "dim"))
        title = self._text(
            f" {_word(remediation.phase)}: {_name(remediation)} on {remediation.subject} ", f"bold {colour}"
        )
        return Panel(Group(*body), title=title, title_align="left", border_style=colour, padding=(0, 1))

    def _undo(self, effect: Effect) -> Text:
        if effect.irreversible:
            return self._text("  cannot be undone", "red")
        return self._text(f"  undo: {effect.undo}" if effect.undo else "  nothing to take back", "dim")

    def _facts(self, remediation: Remediation) -> Text:
        told = f"rule {remediation.rule} · system {remediation.system} · remediation {remediation.id}"
        if remediation.expires_at is not None and remediation.phase is Phase.AWAITING_APPROVAL:
            who = ", ".join(sorted(remediation.current.approval.approvers)) or "nobody"
            told += f"\nmay decide: {who} · until {remediation.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        return self._text(told, "dim")

    def _line(self, remediation: Remediation) -> Text:
        line = self._text(_word(remediation.phase), COLOURS.get(remediation.phase, "cyan"))
        line.append_text(self._text(f": {_name(remediation)} on {remediation.subject}"))
        if remediation.reason:
            line.append_text(self._text(f" ({remediation.reason})", "dim"))
        return line

    def _escalation(self, outgoing: Outgoing) -> RenderableType:
        data, remediation = outgoing.message.data, outgoing.remediation
        called = ", ".join(str(name) for name in data.get("to", ())) or "whoever is on call"
        lines = [self._text(str(data.get("reason") or remediation.reason), "bold")]
        lines += [self._text(f"• {line}") for line in data.get("evidence", ())]
        title = self._text(
            f" {called}, please take over: {_name(remediation)} on {remediation.subject} ", "bold red"
        )
        return Panel(Group(*lines), title=title, title_align="left", border_style="red", padding=(0, 1))

    def _text(self, text: str, style: str = "") -> Text:
        return Text(_CONTROL.sub("?", self._redact(text)), style=style)


def _word(phase: Phase) -> str:
    return phase.value.replace("_", " ")


def _name(remediation: Remediation) -> str:
    return remediation.labels.get("alertname") or remediation.rule
