"""rules/<system>.yml, read, checked and joined to the playbooks: all that is wrong is told at once, with its place.

Files are taken in the order of their `order`, then of their names; the rules in the order they are written.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from remediator.adapters.playbookfiles import read_playbooks
from remediator.adapters.playbookschema import ActionParams
from remediator.adapters.reachability import shadowed
from remediator.adapters.rulebook import Contact, EscalationStep, RuleBook, System, Window
from remediator.adapters.rulechecks import (
    check_connections,
    check_mode,
    check_names,
    check_on_demand,
    check_values,
)
from remediator.adapters.rulerows import (
    approval_of,
    argument_of,
    limits_of,
    on_demand_of,
    own_name,
    schedule_of,
    verify_of,
)
from remediator.adapters.ruleschema import (
    ApprovalRow,
    RuleFile,
    RuleRow,
)
from remediator.adapters.schema import absolute_files, faults, one_of, read_secrets
from remediator.adapters.yamlfiles import Document, Fault, in_order, load_yaml
from remediator.domain.durations import format_duration
from remediator.domain.guards import Limits
from remediator.domain.playbooks import Playbook
from remediator.domain.rules import Mode, Rule, RuleTable, Rung
from remediator.domain.windows import parse_window
from remediator.errors import ConfigError, Finding
from remediator.pipeline.schedule import Schedule

ConnectionModels = Mapping[str, type[BaseModel]]
"""The connection's model of every kind there is."""

Where = tuple[Any, ...]


def load_rulebook(
    rules: Path,
    playbooks: Path,
    actions: ActionParams,
    connections: ConnectionModels,
    approvers: Collection[str] | None = None,
) -> RuleBook:
    """The rules and playbooks of two folders.

    `approvers` are the names of people and groups of the settings: then one that is neither is a warning.

    Raises:
        ConfigError: with everything that is wrong in any file, and the warnings.
    """
    with _no_collection():
        read = read_playbooks(playbooks, actions, connections)
        loader = _Loader(read.playbooks, connections, actions, approvers, frozenset(read.broken))
        book = loader.load(rules)
    told = in_order((*read.findings, *loader.findings))
    if any(finding.severity == "error" for finding in told):
        raise ConfigError(told)
    hashes = {str(path): _hash(path) for path in read.files}
    return RuleBook(book.table, book.systems, book.playbooks, {**book.files, **hashes}, told, book.schedules)


def load_rules(
    folder: Path,
    playbooks: Mapping[str, Playbook],
    connections: ConnectionModels,
    actions: ActionParams | None = None,
    approvers: Collection[str] | None = None,
) -> RuleBook:
    """The rules of a folder, for playbooks that are loaded already.

    With `actions`, the arguments of every rung are tried on the parameters of the actions that they reach.

    Raises:
        ConfigError: with everything that is wrong in any file, and the warnings.
    """
    loader = _Loader(playbooks, connections, actions or {}, approvers)
    with _no_collection():
        book = loader.load(folder)
    if any(finding.severity == "error" for finding in loader.findings):
        raise ConfigError(in_order(loader.findings))
    return book


@contextmanager
def _no_collection() -> Iterator[None]:
    """Put the cyclic garbage collector off: it would walk a growing heap again and again, and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class _Loader:
    playbooks: Mapping[str, Playbook]
    connections: ConnectionModels
    actions: ActionParams
    approvers: Collection[str] | None = None
    broken: frozenset[str] = frozenset()
    """Playbooks whose own files are wrong: what refers to them is not wrong for that."""
    findings: list[Finding] = field(default_factory=list)
    _schedules: list[Schedule] = field(default_factory=list)
    _tried: set[tuple[str, str]] = field(default_factory=set)
    _places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Where each rule's name stands, by the identity of the rule: names may be wrong."""

    def load(self, folder: Path) -> RuleBook:
        """Read all files; what is wrong is in `findings` afterwards."""
        if not folder.is_dir():
            self.findings.append(Finding(str(folder), 1, 1, "there is no such folder of rules"))
        for path in sorted(folder.glob("*.yaml")):
            self.findings.append(Finding(str(path), 1, 1, "end its name in .yml: this file is not read"))
        files = sorted(folder.glob("*.yml"))
        parsed = [found for found in map(self._parse, files) if found]
        parsed.sort(key=lambda found: found[1].order)
        systems: dict[str, System] = {}
        rules: list[Rule] = []
        for document, row in parsed:
            systems[row.system] = self._system(document, row)
            rules += self._rules(document, row)
        self._names(rules)
        for later, earlier in shadowed(rules):
            self._tell_of(later, _shadow(later, earlier), "warning")
        hashes = {str(path): _hash(path) for path in files}
        told, schedules = in_order(self.findings), tuple(self._schedules)
        return RuleBook(RuleTable(rules), systems, dict(self.playbooks), hashes, told, schedules)

    def _tell(self, document: Document, told: Iterable[Fault]) -> bool:
        found = [document.finding(fault) for fault in told]
        self.findings += found
        return any(finding.severity == "error" for finding in found)

    def _tell_of(self, rule: Rule, message: str, severity: str = "error") -> None:
        line, column = self._places[id(rule)]
        self.findings.append(Finding(rule.file, line, column, message, severity))

    def _parse(self, path: Path) -> tuple[Document, RuleFile] | None:
        try:
            document = load_yaml(path)
        except ConfigError as error:
            self.findings += error.findings
            return None
        try:
            row = RuleFile.model_validate(document.data)
        except ValidationError as error:
            self._tell(document, faults(error, RuleFile))
            return None
        if row.system != path.stem:
            message = f"found {row.system!r}, expected the name of the file, {path.stem!r}"
            self._tell(document, [Fault(("system",), message)])
        return document, row

    def _names(self, rules: list[Rule]) -> None:
        first: dict[str, Rule] = {}
        for rule in rules:
            before = first.setdefault(rule.name, rule)
            if before is not rule:
                message = f"the rule {rule.name!r} stands already in {before.file}:{before.line}"
                self._tell_of(rule, message)

    def _system(self, document: Document, row: RuleFile) -> System:
        for index, step in enumerate(row.escalation):
            if step.to not in row.contacts:
                fault = Fault(("escalation", index, "to"), one_of(step.to, row.contacts, "contact"))
                self._tell(document, [fault])
        bound = {name: self._connection(document, row, name) for name in row.connections}
        return System(
            name=row.system,
            contacts={name: Contact(**contact.model_dump()) for name, contact in row.contacts.items()},
            escalation=tuple(EscalationStep(step.to, step.within) for step in row.escalation),
            windows={name: Window(**window.model_dump()) for name, window in row.windows.items()},
            connections={name: connection for name, connection in bound.items() if connection},
        )

    def _connection(self, document: Document, row: RuleFile, name: str) -> BaseModel | None:
        at = ("connections", name)
        kind = row.connections[name].kind
        model = self.connections.get(kind)
        if model is None:
            self._tell(document, [Fault((*at, "kind"), one_of(kind, self.connections, "kind of connection"))])
            return None
        given = document.data["connections"][name]
        if "kind" not in model.model_fields:
            given = {key: value for key, value in given.items() if key != "kind"}
        base = Path(document.file).parent
        given, told = absolute_files(model, given, base, at)
        given, more = read_secrets(model, given, base, at)
        if told + more:
            # On a machine without the secrets the rest is still worth starting: what needs this one is refused.
            self._tell(document, [replace(fault, severity="warning") for fault in told + more])
            return None
        try:
            return model.model_validate(given)
        except ValidationError as error:
            self._tell(document, faults(error, model, at))
            return None

    def _rules(self, document: Document, row: RuleFile) -> Iterator[Rule]:
        self._check_people(document, row, row.defaults.approval, ("defaults", "approval"))
        self._check_contacts(document, row, row.defaults.escalate_to, ("defaults", "escalate_to"))
        for index, given in enumerate(row.rules):
            at: Where = ("rules", index)
            try:
                rule = self._rule(document, row, RuleRow.model_validate(given), at)
            except ValidationError as error:
                self._tell(document, faults(error, RuleRow, at))
            else:
                yield rule

    def _rule(self, document: Document, row: RuleFile, rule: RuleRow, at: Where) -> Rule:
        self._check_contacts(document, row, rule.escalate_to or [], (*at, "escalate_to"))
        escalate_to = row.defaults.escalate_to if rule.escalate_to is None else rule.escalate_to
        if not escalate_to:
            told = "nobody is called when it fails; expected escalate_to, here or in the defaults"
            self._tell(document, [Fault(at, told)])
        line, column = document.place((*at, "name"))
        built = Rule(
            name=rule.name,
            system=row.system,
            matchers=tuple(matcher for together in rule.match for matcher in together) or own_name(rule),
            ladder=tuple(self._ladder(document, row, rule, at)),
            subject=rule.subject,
            limits=self._limits(document, row, rule, at),
            escalate_to=tuple(escalate_to),
            carry_on=rule.carry_on,
            reason=rule.notify or "",
            file=document.file,
            line=line,
            on_demand=on_demand_of(rule.on_demand),
        )
        self._tell(document, check_on_demand(built, at))
        self._places[id(built)] = (line, column)
        if rule.schedule is not None:
            self._schedules.append(schedule_of(built, rule.schedule))
        return built

    def _limits(self, document: Document, row: RuleFile, rule: RuleRow, at: Where) -> Limits:
        limits = limits_of(row.defaults.limits, rule.limits)
        if rule.window is None:
            return limits
        here = (*at, "window")
        if rule.window not in row.windows:
            self._tell(document, [Fault(here, one_of(rule.window, row.windows, "window"))])
            return limits
        given = row.windows[rule.window]
        window = parse_window(rule.window, given.when, given.timezone)
        if window is None:
            told = f"found {given.when!r}, and no gate can be made of it; expected days and hours: Sun 02:00-06:00"
            self._tell(document, [Fault(("windows", rule.window, "when"), told)])
        elif limits.hold < window.longest_wait:
            hold, wait = format_duration(limits.hold), format_duration(window.longest_wait)
            told = f"it may be given up before the window opens: limits.hold is {hold}, and {wait} may pass until then"
            self._tell(document, [Fault(here, told, severity="warning")])
        return replace(limits, window=window)

    def _ladder(self, document: Document, row: RuleFile, rule: RuleRow, at: Where) -> Iterator[Rung]:
        if rule.ladder is None:
            yield Rung(
                playbook="", mode=Mode.NOTIFY, approval=approval_of(row.defaults.approval, ApprovalRow())
            )
            return
        for index, rung in enumerate(rule.ladder):
            here = (*at, "ladder", index)
            verify = rung.verify or rule.verify
            built = Rung(
                playbook=rung.playbook,
                arguments={name: argument_of(value) for name, value in rung.arguments.items()},
                mode=Mode(rung.mode or row.defaults.mode),
                approval=approval_of(row.defaults.approval, rung.approval),
                verify=verify_of(verify) if verify else None,
                when=rung.when,
            )
            self._check_people(document, row, rung.approval, (*here, "approval"))
            if verify and built.verify and built.verify.hold >= built.verify.within:
                hold, within = format_duration(built.verify.hold), format_duration(built.verify.within)
                where = (*here, "verify") if rung.verify else (*at, "verify")
                told = f"it can never be verified: within ({within}) must be longer than hold ({hold})"
                self._tell(document, [Fault(where, told)])
            playbook = self.playbooks.get(rung.playbook)
            if playbook is not None:
                self._tell(document, self._check_rung(row, built, playbook, here))
            elif rung.playbook not in self.broken:
                known = {*self.playbooks, *self.broken}
                self._tell(document, [Fault((*here, "playbook"), one_of(rung.playbook, known, "playbook"))])
            yield built

    def _check_people(self, document: Document, row: RuleFile, approval: ApprovalRow, at: Where) -> None:
        if self.approvers is None:
            return
        known = {*self.approvers}
        for index, name in enumerate(approval.approvers or ()):
            if name not in known:
                told = f"nobody in the settings is {name!r} or of that group, so nobody can approve as it"
                self._tell(document, [Fault((*at, "approvers", index), told, severity="warning")])

    def _check_contacts(self, document: Document, row: RuleFile, names: list[str], at: Where) -> None:
        for index, name in enumerate(names):
            if name not in row.contacts:
                self._tell(document, [Fault((*at, index), one_of(name, row.contacts, "contact"))])

    def _check_rung(self, row: RuleFile, rung: Rung, playbook: Playbook, at: Where) -> Iterator[Fault]:
        yield from check_mode(rung, playbook, at)
        wrong = list(check_names(rung, playbook, at)) or list(
            check_connections(rung, playbook, row, self.connections, at)
        )
        same = (playbook.name, repr(rung.arguments))
        if not wrong and same not in self._tried:
            wrong = list(check_values(rung, playbook, self.actions, at))
            if not wrong:
                self._tried.add(same)
        yield from wrong


def _shadow(later: Rule, earlier: Rule) -> str:
    return (
        f"no alert reaches the rule {later.name!r}: {earlier.name!r} ({earlier.file}:{earlier.line}) matches"
        " whatever it matches and does not continue"
    )
