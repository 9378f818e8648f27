"""What can be wrong with a rung that is written well: it and its playbook do not fit, or its values do not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from remediator.adapters.playbookschema import ActionParams
from remediator.adapters.ruleschema import RuleFile
from remediator.adapters.schema import faults, one_of, show
from remediator.adapters.yamlfiles import Fault
from remediator.domain.playbooks import Choice, Playbook, Reference, bind
from remediator.domain.rules import Mode, Rule, Rung
from remediator.pipeline.start import alertname

Where = tuple[Any, ...]
"""Keys and list places down to one part of a document."""


def check_mode(rung: Rung, playbook: Playbook, at: Where) -> Iterator[Fault]:
    """A rung may go no further than its playbook's risk allows, and has people and a verification for it."""
    if rung.mode is Mode.AUTO and playbook.risk == "high":
        told = f"found auto, but the risk of {playbook.name} is high; expected approve or less"
        yield Fault((*at, "mode"), told)
    if rung.mode is Mode.AUTO and playbook.is_runbook:
        yield Fault((*at, "mode"), f"found auto, but a person does {playbook.name}; expected notify")
    # Even an automatic rung asks a person where its plan turns out to be irreversible.
    asks = playbook.is_runbook or rung.mode in (Mode.APPROVE, Mode.AUTO)
    if asks and not rung.approval.approvers:
        yield Fault(at, "nobody may approve it; expected approval.approvers, here or in the defaults")
    if rung.mode is not Mode.NOTIFY and not playbook.is_runbook and rung.verify is None:
        yield Fault(at, "nothing says how to verify it; expected verify, here or in the rule")


def check_names(rung: Rung, playbook: Playbook, at: Where) -> Iterator[Fault]:
    """The arguments are the playbook's parameters, and none is missing."""
    for name, value in rung.arguments.items():
        if name not in playbook.parameters:
            told = one_of(name, playbook.parameters, f"parameter of {playbook.name}")
            yield Fault((*at, "with", name), told, at_key=True)
        elif isinstance(value, Choice) and not value.among:
            yield Fault((*at, "with", name), "there is nothing to choose among")
    for name, parameter in playbook.parameters.items():
        if parameter.required and name not in rung.arguments:
            yield Fault((*at, "playbook"), f"{playbook.name} needs the parameter {name!r}")


def check_connections(
    rung: Rung, playbook: Playbook, row: RuleFile, kinds: Collection[str], at: Where
) -> Iterator[Fault]:
    """The connections are named in this file, and are of the kind that the playbook asks for."""
    for name, value in rung.arguments.items():
        kind = playbook.parameters[name].connection
        here = (*at, "with", name)
        for one in _alternatives(value) if kind else ():
            if not isinstance(one, str):
                yield Fault(here, f"found {show(one)}, expected the name of a {kind} connection")
            elif one not in row.connections:
                of_kind = [known for known, given in row.connections.items() if given.kind == kind]
                yield Fault(here, one_of(one, of_kind, f"{kind} connection"))
            elif row.connections[one].kind != kind and row.connections[one].kind in kinds:
                found = row.connections[one].kind
                yield Fault(here, f"the connection {one!r} is of the kind {found!r}, expected {kind!r}")


def check_values(rung: Rung, playbook: Playbook, actions: ActionParams, at: Where) -> tuple[Fault, ...]:
    """The actions take the values that reach them, whichever way an alert's labels choose."""
    told: dict[Fault, None] = {}
    for arguments in _variants(rung.arguments):
        for step, bound in zip(playbook.steps, bind(playbook, arguments, {}), strict=True):
            model = actions.get(step.action)
            if model is None:
                continue
            values = dict(bound.arguments)
            if "connection" not in model.model_fields:
                values.pop("connection", None)
            try:
                model.model_validate(values)
            except ValidationError as error:
                for fault in faults(error, model):
                    where = _source(fault, step.arguments, arguments, at)
                    told[Fault(where, f"for {step.action}: {fault.message}")] = None
    return tuple(told)


def check_on_demand(rule: Rule, at: Where) -> Iterator[Fault]:
    """Whoever starts it leaves no place of the subject empty, and chooses nothing that no rung knows."""
    if rule.on_demand is None:
        return
    fixed = {name: (value,) for name, value in rule.on_demand.labels.items()}
    given = {
        **fixed,
        **rule.on_demand.choices,
        "alertname": (alertname(rule.name),),
        "system": (rule.system,),
        "rule": (rule.name,),
    }
    for name in rule.places:
        if name not in given:
            yield Fault(
                (*at, "subject"), f"on_demand gives no label {name!r}; add it to its labels or choices"
            )
    for index, rung in enumerate(rule.ladder):
        for parameter, value in rung.arguments.items():
            if not isinstance(value, Choice):
                continue
            here = (*at, "ladder", index, "with", parameter)
            if value.label not in given and "" not in value.among:
                yield Fault(
                    here, f"on_demand gives no label {value.label!r}; add it to its labels or choices"
                )
            for one in given.get(value.label, ()):
                if one not in value.among:
                    yield Fault(
                        here, f"on_demand may say {value.label}={one!r}, and nothing is listed for that"
                    )


def _source(fault: Fault, step: Mapping[str, Any], arguments: Mapping[str, Any], at: Where) -> Where:
    """Where the rule gives the parameter that the step hands on; the playbook's name where it does not."""
    given = step.get(str(fault.path[0])) if fault.path else None
    if isinstance(given, Reference) and given.name in arguments:
        return (*at, "with", given.name)
    return (*at, "playbook")


def _alternatives(value: Any) -> list[Any]:
    return list(value.among.values()) if isinstance(value, Choice) else [value]


def _variants(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments with each choice made in every way, one choice at a time."""
    first = {name: _alternatives(value)[0] for name, value in arguments.items()}
    yield first
    for name, value in arguments.items():
        for other in _alternatives(value)[1:]:
            yield {**first, name: other}
