"""Each rule of the protocols is held by a test that fails when the rule is not kept."""

from __future__ import annotations

import pytest

from pykesto import failpoints
from stress.mutations import FOUND_BY, run, written


def test_each_rule_that_can_be_broken_has_a_test_that_finds_it() -> None:
    assert set(FOUND_BY) == set(failpoints.RULES)
    assert list(written()) == list(FOUND_BY)


@pytest.mark.parametrize("rule", FOUND_BY)
def test_a_broken_rule_is_found(rule: str) -> None:
    assert run(FOUND_BY[rule], rule).seen, f"{FOUND_BY[rule]} passes although {rule} is off"
