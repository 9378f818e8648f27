"""Every use of an action that the rules can lead to, with what it needs. Nothing is connected to."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from remediator.adapters.registry import BoundActions
from remediator.adapters.rulebook import RuleBook
from remediator.domain.playbooks import BoundStep, Choice, Playbook, bind
from remediator.domain.rules import Mode, Rule, Rung
from remediator.errors import ActionError
from remediator.pipeline.ports import Actions, Permissions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Use:
    """One step of one rung, with one way that an alert's labels can choose; `settings` are the connection's."""

    system: str
    connection: str
    settings: BaseModel
    rule: str
    playbook: str
    step: str
    mode: Mode
    needs: Permissions

    @property
    def place(self) -> str:
        """The connection, as a person would say it."""
        return f"{self.system}/{self.connection}"

    @property
    def source(self) -> str:
        """Why it is needed, on one line: a name that a file gives must not end the comment that it stands in."""
        return " ".join(f"{self.rule} -> {self.playbook} -> {self.step} ({self.mode.value})".split())


@dataclass(frozen=True, slots=True)
class Gathered:
    """All uses in the order of the rules, and what could not be told."""

    uses: tuple[Use, ...]
    problems: tuple[str, ...] = ()


async def gather(book: RuleBook, rules: Collection[str] = ()) -> Gathered:
    """What the rules need; those of these names, or all."""
    connections = {name: system.connections for name, system in book.systems.items()}
    actions = BoundActions(connections)
    uses: list[Use] = []
    problems = [f"there is no rule {name!r}" for name in rules if name not in book.table.by_name]
    try:
        for rule in book.table.rules:
            if not rules or rule.name in rules:
                for found in _of_rule(rule, book.playbooks, connections, actions):
                    (uses if isinstance(found, Use) else problems).append(found)  # type: ignore[arg-type]
    finally:
        await actions.close()
    return Gathered(tuple(uses), tuple(dict.fromkeys(problems)))


def _of_rule(
    rule: Rule,
    playbooks: Mapping[str, Playbook],
    connections: Mapping[str, Mapping[str, BaseModel]],
    actions: Actions,
) -> Iterator[Use | str]:
    for rung in rule.ladder:
        playbook = playbooks.get(rung.playbook)
        # What a person does needs nothing of ours.
        if playbook is None or playbook.is_runbook or rung.mode is Mode.NOTIFY:
            continue
        for step in _steps(rule, rung, playbook):
            named = str(step.arguments.get("connection", ""))
            why = f"{rule.name} -> {playbook.name} -> {step.name}"
            try:
                action = actions.get(step.action, rule.system, named)
                needs = action.permissions(action.Params.model_validate(dict(step.arguments)))
            except (ActionError, ValidationError) as error:
                yield f"{why}: {error}"
                continue
            settings = connections[rule.system][named]
            yield Use(rule.system, named, settings, rule.name, playbook.name, step.name, rung.mode, needs)


def _steps(rule: Rule, rung: Rung, playbook: Playbook) -> Iterator[BoundStep]:
    """The steps, bound in every way that labels can choose, each different one once."""
    seen: set[str] = set()
    for labels in choices(rule, rung):
        for step in bind(playbook, rung.arguments, labels):
            key = json.dumps([step.name, step.arguments], sort_keys=True, default=str)
            if key not in seen:
                seen.add(key)
                yield step


def choices(rule: Rule, rung: Rung) -> Iterator[dict[str, str]]:
    """The label values that choose among a rung's arguments, as far as the rule's own matchers let them through.

    A label that chooses for several arguments chooses for all of them at once.
    """
    among: dict[str, list[str]] = {}
    for value in rung.arguments.values():
        if isinstance(value, Choice):
            others = among.get(value.label, list(value.among))
            among[value.label] = [
                one
                for one in value.among
                if one in others
                and all(m.matches({value.label: one}) for m in rule.matchers if m.label == value.label)
            ]
    for chosen in itertools.product(*among.values()):
        yield dict(zip(among, chosen, strict=True))


def by_place(uses: Iterable[Use]) -> dict[str, list[Use]]:
    """The uses of each connection, in order."""
    places: dict[str, list[Use]] = {}
    for use in uses:
        places.setdefault(use.place, []).append(use)
    return places


def traced(items: Iterable[tuple[T, str]]) -> dict[T, list[str]]:
    """Each item once, with all the sources that it came from."""
    found: dict[T, list[str]] = {}
    for item, source in items:
        sources = found.setdefault(item, [])
        if source not in sources:
            sources.append(source)
    return found


def commented(items: Mapping[str, Sequence[str]], mark: str, indent: str = "") -> list[str]:
    """Lines under the comments that tell their sources; neighbours with the same sources share them."""
    lines: list[str] = []
    last: Sequence[str] = ()
    for item, sources in items.items():
        if sources != last:
            lines += [f"{indent}{mark} {source}" for source in sources]
            last = sources
        lines.append(indent + item)
    return lines
