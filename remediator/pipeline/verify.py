"""Verify: ask Prometheus whether the symptom is gone. No answer and no sample both mean "not verified"."""

from __future__ import annotations

from remediator.domain.remediations import Remediation, Sampled
from remediator.errors import WorldUnavailable
from remediator.pipeline.ports import World


async def sample(remediation: Remediation, world: World) -> Sampled:
    """One look at the symptom."""
    verify = remediation.current.verify
    assert verify is not None
    try:
        gone, value = await world.sample(verify.expr)
    except WorldUnavailable as error:
        return Sampled(None, str(error))
    return Sampled(gone, value)
