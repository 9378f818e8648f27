"""Verify: ask Prometheus whether the symptom is gone. No answer and no sample both mean "not verified"."""

from __future__ import annotations

from remediator.domain.facts import Sampled
from remediator.domain.remediations import Remediation
from remediator.errors import WorldUnavailable
from remediator.pipeline.ports import World


async def sample(remediation: Remediation, world: World) -> Sampled:
    """One look at the symptom, and at what must hold beside it."""
    verify = remediation.current.verify
    assert verify is not None
    told = []
    try:
        for expr in (verify.expr, *verify.also):
            gone, value = await world.sample(expr)
            told.append(value)
            if not gone:
                return Sampled(gone, f"{expr}: {value}" if verify.also else value)
    except WorldUnavailable as error:
        return Sampled(None, str(error))
    return Sampled(True, "; ".join(told))
