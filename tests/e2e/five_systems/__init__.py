"""The five systems, as one real Prometheus sees them: cases for tests/e2e/test_five_systems.py."""

from tests.e2e.five_systems.beside import BESIDE
from tests.e2e.five_systems.case import TARGETS, Case
from tests.e2e.five_systems.systems import SYSTEMS

CASES = SYSTEMS + BESIDE

__all__ = ["CASES", "TARGETS", "Case"]
