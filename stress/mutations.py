"""Planted bugs, and what finds each: python -m stress.mutations --write

Each rule of `pykesto.failpoints` is switched off, and the test that holds it is run, which must fail. Prints how long
that took, in seconds of the processor, so that other work on the machine does not count; `--write` puts it into
docs/testing.md.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pykesto import failpoints

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "testing.md"
HEAD = "| rule that is broken | the test that finds it | after |\n| --- | --- | --- |\n"
STUCK_S = 25.0  # a rule whose loss makes somebody wait for ever is found by this

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
    "overlay.versions": "tests/engine/test_versions.py::test_an_old_snapshot_keeps_its_version_of_a_changing_row",
    "overlay.indexes": "tests/session/test_index_kinds.py::test_an_index_serves_what_no_base_has_yet",
    "row.checksum": "tests/engine/test_damage.py::test_a_flipped_byte_in_a_row_of_a_base_is_reported_when_it_is_read",
    "query.rest": "tests/session/test_queries.py::test_conditions_are_anded_and_a_second_order_replaces",
    "query.pending": "tests/session/test_queries.py::test_a_query_is_immutable_and_lazy_and_runs_anew_each_time",
    "codec.end": "tests/codec/test_malformed_bytes.py::test_bytes_behind_a_container_are_refused",
    "codec.members": "tests/codec/test_malformed_bytes.py::test_a_set_with_a_member_twice_is_refused",
    "objects.reached": "tests/objects/test_objects.py::test_references_and_cycles_survive_reopening",
    "objects.referred": "tests/objects/test_life.py::test_a_deletion_cascades_nullifies_and_is_restricted_as_declared",
    "objects.known": "tests/objects/test_objects.py::test_get_gives_none_for_what_is_not_there_or_of_another_class",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a test with a rule switched off. `status` is None if it was stuck."""

    status: int | None
    processor_s: float

    @property
    def seen(self) -> bool:
        return self.status in (1, None)

    def __str__(self) -> str:
        if not self.seen:
            return "not found"
        return f"{self.processor_s:.1f} s" if self.status == 1 else f"stuck for {STUCK_S:.0f} s"


def run(test: str, rule: str, *, stuck_s: float = STUCK_S) -> Found:
    """Run a test with a rule switched off, or with none if it is ""."""
    environment = os.environ | {failpoints.VARIABLE: f"{rule}=off" if rule else "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    status: int | None = None
    with suppress(subprocess.TimeoutExpired):
        status = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=stuck_s, check=False
        ).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Found(status, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def row(rule: str, after: str) -> str:
    test = FOUND_BY[rule].replace("tests/", "", 1)
    return f"| `{rule}`: {failpoints.RULES[rule]} | `{test}` | {after} |"


def written() -> dict[str, str]:
    """Rule -> how long it took, in the document as it is."""
    return dict(re.findall(r"^\| `([a-z.]+)`: .*? \| `.*?` \| (.*?) \|$", DOCUMENT.read_text(), re.M))


def write(found: dict[str, str]) -> None:
    """Put the table into the document; of what was not run now it keeps what stood there."""
    known = written() | found
    text = DOCUMENT.read_text()
    begin = text.index(HEAD) + len(HEAD)
    end = text.index("\n\n", begin)
    DOCUMENT.write_text(text[:begin] + "\n".join(row(rule, known.get(rule, "")) for rule in FOUND_BY) + text[end:])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.mutations", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rules", nargs="*", help="of pykesto.failpoints.RULES (all)")
    parser.add_argument("--write", action="store_true", help="put the results into docs/testing.md")
    options = parser.parse_args()
    missed = 0
    for rule in options.rules or FOUND_BY:
        found = run(FOUND_BY[rule], rule)
        missed += not found.seen
        print(f"{rule}: {found}", flush=True)
        if options.write:
            write({rule: str(found)})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
