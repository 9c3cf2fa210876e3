"""Each rule of the protocols is held by a test that fails when the rule is not kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pykesto import failpoints

ROOT = Path(__file__).parents[2]

CUTS = "tests/crash/test_prefixes.py::test_a_power_cut_at_any_call_leaves_what_a_commit_left"
# A rule that is switched off -> a test that must then fail. docs/testing.md has the table for people.
FOUND_BY = {
    "validate.writes": "tests/engine/test_conflicts.py::test_both_isolations_conflict_on_a_written_row",
    "validate.reads": "tests/engine/test_conflicts.py",
    "validate.predicates": "tests/engine/test_conflicts.py",
    "validate.before": "tests/engine/test_conflicts.py",
    "unique.check": "tests/engine/test_unique.py",
    "journal.durable": "tests/stress/test_io_faults.py::test_each_commit_of_a_process_that_is_alone_syncs_the_journal",
    "checkpoint.rows": "tests/engine/test_snapshots.py::test_a_checkpoint_takes_over_what_the_journal_holds",
    "recovery.tail": "tests/journal/test_recovery.py::test_records_are_found_again_after_a_clean_and_an_unclean_end",
    "recovery.rewrite": "tests/engine/test_rules.py::test_recovery_writes_again_what_it_can_not_prove_durable",
    "recovery.generation": "tests/journal/test_recovery.py::test_a_dropped_record_never_comes_back",
    "sync.again": "tests/journal/test_sync.py::test_a_record_that_changed_under_a_dead_sync_poisons",
    "sync.patience": "tests/journal/test_sync.py::test_a_waiter_whose_syncer_is_stopped_syncs_by_itself",
    "roll.sync": "tests/journal/test_segments.py::test_a_roll_makes_what_came_before_durable",
    "record.claims": (
        "tests/journal/test_recovery.py::test_a_later_record_that_claims_durability_beyond_a_bad_one_proves_damage"
    ),
    "commit.reads": "tests/engine/test_rules.py::test_a_commit_that_only_read_vouches_for_what_it_read",
    "checkpoint.durable": "tests/engine/test_rules.py::test_a_base_holds_nothing_that_is_not_durable",
    "checkpoint.reconcile": "tests/engine/test_rules.py::test_a_flip_that_a_dead_process_left_out_is_published",
    "checkpoint.copies": (
        "tests/engine/test_snapshots.py::test_readers_that_pin_every_base_get_a_further_one_made_that_goes_away_after_them"
    ),
    "checkpoint.reach": "tests/engine/test_rules.py::test_a_base_that_the_journal_no_longer_reaches_is_made_by_copy",
    "pins.again": "tests/engine/test_rules.py::test_who_pins_a_base_too_late_takes_the_one_that_is_current",
    "pins.alive": "tests/engine/test_rules.py::test_the_dead_pin_nothing",
    "directory.sync": f"{CUTS}[commits]",
    "whole.sync": f"{CUTS}[commits]",
    "segment.sync": f"{CUTS}[commits]",
    "manifest.sync": f"{CUTS}[checkpoints]",
    "stamp.remove": f"{CUTS}[checkpoints]",
    "base.sync": f"{CUTS}[checkpoints]",
    "mark.withdrawn": "tests/journal/test_recovery.py",
    "stamp.trust": "tests/engine/test_opening.py::test_a_stamp_of_another_life_is_not_trusted",
}
STUCK_S = 25.0  # a rule whose loss makes somebody wait for ever is found by this


def run(test: str, rule: str) -> int | None:
    """The exit status of a test with a rule switched off; None if it was stuck."""
    environment = os.environ | {failpoints.VARIABLE: f"{rule}=off" if rule else "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=STUCK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def test_each_rule_that_can_be_broken_has_a_test_that_finds_it() -> None:
    assert set(FOUND_BY) == set(failpoints.RULES)


@pytest.mark.parametrize("rule", FOUND_BY)
def test_a_broken_rule_is_found(rule: str) -> None:
    assert run(FOUND_BY[rule], rule) in (1, None), f"{FOUND_BY[rule]} passes although {rule} is off"
