"""What does not fit together: each fault with its place and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from pathlib import Path

from remediator.adapters.yamlfiles import Document, load_yaml
from remediator.coverage.alertingrules import AlertingRule
from remediator.coverage.documented import Documented
from remediator.coverage.routes import Route, Routing
from remediator.coverage.shapes import Answer, Shape, all_match, matches
from remediator.domain.durations import format_duration
from remediator.domain.playbooks import Playbook
from remediator.domain.rules import Rule, RuleTable
from remediator.errors import ConfigError, Finding
from remediator.pipeline.start import alertname

CANARY = "Watchdog"
"""The alert that always fires and that nobody remediates."""

MOST_TRIED = 500
"""Combinations of label values that are tried on the rules of one alert."""


def possible(table: RuleTable, shape: Shape) -> tuple[tuple[Rule, Answer], ...]:
    """The rules that an alert of this shape may start, as the table asks them: in order, to the first that is sure
    and does not continue.
    """
    found: list[tuple[Rule, Answer]] = []
    for rule in table.rules:
        answer = all_match(rule.matchers, shape)
        if answer is Answer.NO:
            continue
        found.append((rule, answer))
        if answer is Answer.YES and not rule.carry_on:
            break
    return tuple(found)


def uncaught(alerts: Sequence[AlertingRule], table: RuleTable) -> Iterator[Finding]:
    """Alerts that no rule catches, or not every one of them."""
    for alert in alerts:
        if alert.name == CANARY:
            continue
        if not alert.shapes:
            told = "it can never fire: no recording rule gives a series with the labels that its expression demands"
            yield alert.finding(f"{alert.told}: {told}", "warning")
        missed = [shape for shape in alert.shapes if not possible(table, shape)]
        if missed:
            which = "no rule catches it" if len(missed) == len(alert.shapes) else _some(missed, alert)
            mend = "add a row to rules/, or `notify:` with the reason why no playbook acts"
            yield alert.finding(f"{alert.told}: {which}; {mend}")
            continue
        gap = next(filter(None, (_gap(table, shape) for shape in alert.shapes)), None)
        if gap is not None:
            rule, labels = gap
            told = ", ".join(f"{name}={value!r}" for name, value in labels.items())
            message = (
                f"{alert.told}: with {told} no rule catches it; the nearest is {rule.name!r} ({rule.file}:{rule.line});"
                " add a row below it for the rest"
            )
            yield alert.finding(message, "warning")


def _gap(table: RuleTable, shape: Shape) -> tuple[Rule, dict[str, str]] | None:
    """Values that the rules do not name, of labels nobody knows beforehand, with which no rule catches it."""
    rules = possible(table, shape)
    if any(answer is Answer.YES for _, answer in rules):
        return None
    unknown: dict[str, dict[str, None]] = {}
    for rule, _ in rules:
        for matcher in rule.matchers:
            if matches(matcher, shape) is Answer.MAYBE:
                named = dict.fromkeys(matcher.value.split("|"))
                unknown.setdefault(matcher.label, {"another": None}).update(named)
    known = {name: value for name, value in shape.values.items() if value}
    for values in islice(product(*unknown.values()), MOST_TRIED):
        labels = dict(zip(unknown, values, strict=True))
        if not any(rule.matches({**known, **labels}) for rule, _ in rules):
            return rules[0][0], labels
    return None


def _some(missed: Sequence[Shape], alert: AlertingRule) -> str:
    shown = {name: value for name, value in missed[0].values.items() if name not in alert.labels and value}
    told = ", ".join(f'{name}="{value}"' for name, value in sorted(shown.items()) if name != "alertname")
    return f"no rule catches {len(missed)} of its {len(alert.shapes)} label sets, such as {told or 'the bare one'}"


def unreachable(
    rules: Sequence[Rule], alerts: Sequence[AlertingRule], scheduled: frozenset[str] = frozenset()
) -> Iterator[Finding]:
    """Rules that demand what no alerting rule's labels can carry. `scheduled` ones start by the clock.

    What only people start demands the name of its own run.
    """
    documents: dict[str, Document | None] = {}
    for rule in rules:
        if rule.name in scheduled or (rule.on_demand and rule.matches({"alertname": alertname(rule.name)})):
            continue
        if not any(
            all_match(rule.matchers, shape) is not Answer.NO for alert in alerts for shape in alert.shapes
        ):
            line, column = _place(rule, documents)
            told = f"no alert can reach the rule {rule.name!r}: {_why(rule, alerts)}"
            yield Finding(rule.file, line, column, told)


def _why(rule: Rule, alerts: Sequence[AlertingRule]) -> str:
    """The matcher that is in the way, told of the alert that comes nearest."""
    nearest: tuple[int, AlertingRule, Shape] | None = None
    for alert in alerts:
        for shape in alert.shapes:
            wrong = sum(matches(m, shape) is Answer.NO for m in rule.matchers)
            # An alert of another name is further away than any label makes it.
            misnamed = any(m.label == "alertname" and matches(m, shape) is Answer.NO for m in rule.matchers)
            score = wrong + 100 * misnamed
            if nearest is None or score < nearest[0]:
                nearest = (score, alert, shape)
    if nearest is None:
        return "there are no alerting rules"
    _, alert, shape = nearest
    wrong_ones = [m for m in rule.matchers if matches(m, shape) is Answer.NO]
    if any(m.label == "alertname" for m in wrong_ones):
        named = next(m for m in wrong_ones if m.label == "alertname")
        return f"no alerting rule is called so ({named}); mend the name, or remove the rule"
    doubt = wrong_ones[0]
    value = shape.value(doubt.label)
    found = f"its {doubt.label} is {value!r}" if value else f"it carries no label {doubt.label}"
    where = f"{alert.name} ({alert.file}:{alert.line})"
    return f"{where} fails {doubt}: {found}; mend the matcher, or the labels of the alerting rule"


def _place(rule: Rule, documents: dict[str, Document | None]) -> tuple[int, int]:
    """Where the rule's matchers stand."""
    if rule.file not in documents:
        try:
            documents[rule.file] = load_yaml(Path(rule.file))
        except ConfigError:
            documents[rule.file] = None
    document = documents[rule.file]
    rows = document.data.get("rules", []) if document and isinstance(document.data, dict) else []
    for index, row in enumerate(rows):
        if document and isinstance(row, dict) and row.get("name") == rule.name:
            return document.place(("rules", index, "match"))
    return rule.line or 1, 1


def unrouted(alerts: Sequence[AlertingRule], routing: Routing) -> Iterator[Finding]:
    """Alerts that a route takes elsewhere; told once for each route, with the alerts that it takes."""
    if not routing.hooks:
        told = "no receiver posts to remediator; add a webhook_config with url: http://HOST:8080/api/v1/alertmanager"
        yield Finding(routing.file, routing.root.line, routing.root.column, told)
        return
    taken: dict[Route, dict[str, None]] = {}
    for alert in alerts:
        for shape in alert.shapes:
            if not routing.reaches_us(shape):
                routes = routing.taken_by(shape)
                taken.setdefault(routes[0] if routes else routing.root, {})[alert.told] = None
                break
    for route, names in taken.items():
        shown = ", ".join([*names][:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        told = (
            f"{shown}: goes to {route.receiver!r} and does not surely reach remediator; put the route to remediator"
            " above this one, with `continue: true`"
        )
        yield Finding(routing.file, route.line, route.column, told)


def repeats(alerts: Sequence[AlertingRule], table: RuleTable, routing: Routing) -> Iterator[Finding]:
    """A reminder that comes while the subject still rests: once for each route and rule."""
    early: dict[Route, dict[str, Rule]] = {}
    for alert in alerts:
        for shape in alert.shapes:
            rules = [rule for rule, _ in possible(table, shape) if any(rung.playbook for rung in rule.ladder)]
            for route in routing.to_us(shape) if rules else ():
                for rule in rules:
                    if route.repeat_interval < rule.limits.cooldown:
                        early.setdefault(route, {})[rule.name] = rule
    for route, found in early.items():
        longest = max(found.values(), key=lambda rule: rule.limits.cooldown)
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        told = (
            f"repeat_interval {format_duration(route.repeat_interval)} is shorter than the cooldown"
            f" {format_duration(longest.limits.cooldown)} of {longest.name!r} ({longest.file}:{longest.line}){others};"
            " the reminders in between change nothing: make it as long, or the cooldown shorter"
        )
        yield Finding(routing.file, route.line, route.column, told, "warning")


def delivery(routing: Routing, *, unauthenticated: bool = False) -> Iterator[Finding]:
    """How our webhook is called. `unauthenticated`: the service is set up to take posts from anybody."""

    def told(line: int, column: int, message: str, severity: str = "error") -> Finding:
        return Finding(routing.file, line, column, message, severity)

    for hook in routing.hooks:
        if hook.max_alerts > 0:
            message = f"max_alerts {hook.max_alerts} cuts notifications short, and what is cut may be firing; set it to 0"
            yield told(hook.line, hook.column, message)
        if not hook.send_resolved:
            message = "send_resolved is false, so that no episode ever ends for us; set it to true"
            yield told(hook.line, hook.column, message)
        if not hook.authenticated:
            message = "the webhook is called without credentials; add http_config.authorization with credentials_file"
            yield told(hook.line, hook.column, message, "warning" if unauthenticated else "error")
    for route in routing.walk():
        if route.receiver in routing.ours and route.quiet:
            message = (
                f"the time intervals {', '.join(route.quiet)} keep alerts from remediator; leave them to the routes"
                " of people, and let a window be a gate in rules/"
            )
            yield told(route.line, route.column, message, "warning")


def without_procedure(alerts: Sequence[AlertingRule], procedures: Mapping[str, object]) -> Iterator[Finding]:
    """Alerts whose `procedure` annotation names none that is listed."""
    for alert in alerts:
        name = alert.annotations.get("procedure", "")
        if procedures and name and name not in procedures:
            told = f"{alert.told}: there is no procedure {name!r}; add it to prometheus/procedures/, or mend the name"
            yield alert.finding(told)


def ungated(documented: Documented, playbooks: Mapping[str, Playbook]) -> Iterator[Finding]:
    """Documented gates of a procedure that its playbook does not ask before it acts. A person reads a runbook's."""
    names = {item.id: item.name for item in documented.items if item.carrier == "gate"}
    for name, procedure in documented.procedures.items():
        playbook = playbooks.get(procedure.playbook)
        if playbook is None or playbook.is_runbook:
            continue
        asked = {gate.id for gate in playbook.gates}
        open_ = [
            gate for gate, how in procedure.kept.items() if not how and not asked & {gate, names.get(gate)}
        ]
        if open_:
            told = (
                f"{playbook.name} acts without asking {', '.join(open_)}; add gates to the playbook, or say here how"
                " each is kept, as `- {GATE: how}`"
            )
            yield documented.finding(name, told, "warning")
