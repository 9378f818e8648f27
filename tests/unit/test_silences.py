"""Whose a silence is, by its creator and comment."""

from __future__ import annotations

import pytest

from remediator.domain.silences import CREATED_BY, comment, is_own


@pytest.mark.parametrize(
    ("created_by", "told", "expected"),
    [
        pytest.param(CREATED_BY, comment("r1", "abc", "restart"), True, id="ours"),
        pytest.param(CREATED_BY, comment("r1", "abc", ""), True, id="without-a-reason"),
        pytest.param(CREATED_BY, comment("r2", "abc", "restart"), False, id="another-remediation"),
        pytest.param(CREATED_BY, comment("r12", "abc", "restart"), False, id="a-longer-name"),
        pytest.param(CREATED_BY, comment("", "abc", "restart"), False, id="of-no-remediation"),
        pytest.param(CREATED_BY, comment("r2", "abc", "for remediator r1 "), False, id="only-named"),
        pytest.param("ada", comment("r1", "abc", "restart"), False, id="somebody-else"),
        pytest.param("ada", "deployment of Friday", False, id="a-person"),
    ],
)
def test_own_and_others(created_by: str, told: str, expected: bool) -> None:
    """Own is what was created under our name with this very remediation at the front of the comment."""
    assert expected == is_own("r1", created_by, told)


def test_nothing_is_own_without_a_remediation() -> None:
    """Whoever does not say for whom it asks is told every silence."""
    assert not is_own("", CREATED_BY, comment("", "abc", "restart"))
