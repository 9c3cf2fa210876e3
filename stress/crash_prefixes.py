"""Power cuts at every call: python -m stress.crash_prefixes --seed 1 --states 5000

Each workload runs once, in processes whose calls to the system are recorded. Then, for every prefix of the calls, the
files are built as a power cut at that moment may leave them (`fake_disk`), and the database is opened there. What it
holds must be what it held after some commit: none before the last that was acknowledged as durable, and none that was
not begun. Opened again it is the same; no commit number is given twice; the checker finds nothing.

Recoveries are tried likewise: some of the states are recovered in a process that is recorded, and the power is cut at
each of its calls. What a recovery once showed must stay.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pykesto

from .crash_steps import DIED, MARKER, WORKLOADS, State, Step, apply, content, states, steps
from .fake_disk import NOTES, Call, Cut, FakeDisk, Found, cuts, look_at, read_calls
from .io_faults import compile_library

ROOT = Path(__file__).parents[1]
BOUND = 4  # so many unsynced changes are tried in every subset
SAMPLES = 6  # of more, so many random subsets
NESTED = 3  # recoveries of a workload that are recorded


class RecordingFailed(Exception):
    """The process whose calls were recorded ended otherwise than it should."""


@dataclass(slots=True)
class Expected:
    """What a database may hold, as the notes of a run go on."""

    states: list[State]
    least: int = 0
    most: int = 0
    newest: int = 0  # the highest number that was given to a commit

    def hear(self, line: str) -> None:
        note = json.loads(line)
        self.newest = max(self.newest, note.get("number", 0))
        if note["what"] == "begun":
            self.most = max(self.most, note["commit"])
        elif note["what"] == "opened":
            self.least = self.most  # a recovery makes durable what it accepts: nothing was cut off in a recorded run
        elif note["what"] == "closed" or note["durable"]:
            self.least = note["commit"]


@dataclass(slots=True)
class Recording:
    """The calls of a run, the files that were there before, and what was to be expected of them."""

    name: str
    before: list[Found]
    calls: list[Call]
    expected: Expected


@dataclass(slots=True)
class Tally:
    """Counts, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[what]} {what}" for what in self.counts)


class Trial:
    """Records workloads in a directory, and tries cuts."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory, self.seed = directory, seed
        self.tally = Tally()
        self.library = directory / "record_calls.so"
        compile_library("record_calls.c", self.library)
        self.built = 0

    def record(self, name: str) -> Recording:
        """Run a workload from nothing, and after each death of its process from there on."""
        root = self.directory / name
        root.mkdir()
        todo = steps(name, self.seed)
        before, first = look_at(root), 0
        while self._process(root, name, first) == DIED:
            first = next(i for i in range(first, len(todo)) if todo[i].act == "die") + 1
        return self._recording(root, name, before, Expected(states(todo)))

    def record_recovery(self, name: str, image: Path, held: State, newest: int) -> Recording:
        """Recover what a cut left, which holds `held`, and commit a row more."""
        root = image.parent
        before = look_at(root)
        self._process(root, "recovery", 0)
        with_marker = held.after(Step((("put", MARKER, 1, {}),)))
        return self._recording(root, name, before, Expected([held, with_marker], newest=newest))

    def _process(self, root: Path, workload: str, first: int) -> int:
        log, page = root.with_name(f"{root.name}.calls"), root.with_name(f"{root.name}.page")
        last = read_calls(log)[-1].number + 1 if log.exists() else 0
        page.write_bytes(bytes(8) + last.to_bytes(8, "little") + bytes(4080))  # nobody has the lock; the next number
        environment = os.environ | {
            "LD_PRELOAD": str(self.library),
            "RECORD_ROOT": str(root),
            "RECORD_TO": str(log),
            "RECORD_PAGE": str(page),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "stress.crash_steps", str(root / "db.kesto"), str(root / NOTES)]
        command += [workload, str(self.seed), str(first)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode not in (0, DIED):
            raise RecordingFailed(f"the recorded process of {workload} ended with {done.returncode}:\n{done.stderr}")
        return done.returncode

    def _recording(self, root: Path, name: str, before: list[Found], expected: Expected) -> Recording:
        calls = read_calls(root.with_name(f"{root.name}.calls"))
        self.tally.counts["calls"] += len(calls)
        return Recording(name, before, calls, expected)

    def tried(self, recording: Recording, most: int) -> Iterator[tuple[Path, State, int]]:
        """Try about `most` of the states that a recording leads to; at least one for each prefix, if `most` is enough.

        Yields the files of each that was opened before it was verified, what it holds and the newest number; they are
        taken away after that.
        """
        sizes = [len(found) for _, found, _, _ in self._prefixes(recording)]
        self.tally.counts["prefixes"] += len(sizes)
        self.tally.counts["possible states"] += sum(sizes)
        chance = random.Random(f"{self.seed} {recording.name} which")
        each = len(sizes) <= most
        share = (most - len(sizes) * each) / max(1, sum(sizes))
        seen: set[tuple[object, ...]] = set()
        for at, found, disk, expected in self._prefixes(recording):
            always = chance.randrange(len(found)) if each else -1
            for i, cut in enumerate(found):
                if i == always or chance.random() < share:
                    yield from self._try(recording, at, i, cut, disk, expected, seen)

    def _prefixes(self, recording: Recording) -> Iterator[tuple[int, list[Cut], FakeDisk, Expected]]:
        first = recording.expected
        expected = Expected(first.states, first.least, first.most, first.newest)
        disk = FakeDisk(recording.before)
        chance = random.Random(f"{self.seed} {recording.name}")
        notes = None
        for call in disk.play(recording.calls):
            if call.path == NOTES:
                notes = call.inode
            elif call.inode == notes and call.kind == "W":
                expected.hear(call.content.decode())
            yield call.number, cuts(disk.pending(), chance, bound=BOUND, samples=SAMPLES), disk, expected

    def _try(
        self,
        recording: Recording,
        at: int,
        i: int,
        cut: Cut,
        disk: FakeDisk,
        expected: Expected,
        seen: set[tuple[object, ...]],
    ) -> Iterator[tuple[Path, State, int]]:
        self.built += 1
        root = self.directory / f"state-{self.built}"
        disk.build(root, cut, random.Random(f"{self.seed} {recording.name} {at} {i}"))
        self.tally.counts["states"] += 1
        fingerprint = (_fingerprint(root / "db.kesto"), expected.least, expected.most)
        if fingerprint in seen:
            shutil.rmtree(root)
            return
        seen.add(fingerprint)
        self.tally.counts["different states"] += 1
        where = f"{recording.name}, after call {at}, cut {i}"
        kept = root.with_name(f"{root.name}-kept")
        shutil.copytree(root, kept)
        try:
            held = verify(root / "db.kesto", expected)
        except Exception as error:  # noqa: BLE001 - whatever it is, it should not be
            evidence = self.directory / f"evidence-{len(self.tally.problems)}"
            kept.rename(evidence)
            self.tally.problems.append(f"{where}: {type(error).__name__}: {error} ({evidence})")
        else:
            yield kept / "db.kesto", held, expected.newest
            shutil.rmtree(kept, ignore_errors=True)
        shutil.rmtree(root)


def verify(path: Path, expected: Expected) -> State:
    """Open what a cut left, twice, and go on with it; what it held. AssertionError for what must not be."""
    with pykesto.open(path) as db:
        found = content(db)
    with pykesto.open(path) as db:
        assert content(db) == found, "opened again it holds something else"
        number = apply(db, Step((("put", "after", 1, {}),)))
        assert number > expected.newest, f"the number {number} was given before, up to {expected.newest}"
        report = db.check()
        assert report.problems == (), report.problems
    allowed = expected.states[expected.least : expected.most + 1]
    assert found in allowed, _difference(found, expected)
    return found


def _difference(found: State, expected: Expected) -> str:
    if found in expected.states:
        return (
            f"it holds what it held after commit {expected.states.index(found)}; that must be one of "
            f"{expected.least} to {expected.most}"
        )
    rows = {table: sorted(rows) for table, rows in found.rows.items()}
    return f"it holds what it never held: rows {rows}, indexes {found.indexes}"


def _fingerprint(path: Path) -> int:
    """Of all files that anything may depend on."""
    if not path.exists():
        return 0
    files = [p for p in sorted(path.rglob("*")) if p.suffix != ".lock" and p.name != "control"]
    return hash(tuple((str(p.relative_to(path)), p.read_bytes() if p.is_file() else b"") for p in files))


def try_workload(trial: Trial, name: str, most: int) -> None:
    """A workload, and the recoveries of some of the states that it leaves."""
    recording = trial.record(name)
    chance = random.Random(f"{trial.seed} {name} nested")
    nested: list[Recording] = []
    share = 10 * NESTED / most
    for image, held, newest in trial.tried(recording, most * 2 // 3):
        if len(nested) < NESTED and chance.random() < share and image.exists():
            image = image.parent.rename(trial.directory / f"{name}-{len(nested)}") / image.name
            nested.append(trial.record_recovery(f"{name}, recovery {len(nested)}", image, held, newest))
            trial.tally.counts["recorded recoveries"] += 1
    for recovery in nested:
        for _ in trial.tried(recovery, most // 3 // len(nested)):
            pass


def run(directory: Path, seed: int, most: int, workloads: list[str]) -> Tally:
    """Try about `most` states of all workloads, in a directory that is kept."""
    trial = Trial(directory, seed)
    for name in workloads:
        try:
            try_workload(trial, name, max(1, most // len(workloads)))
        except RecordingFailed as error:
            trial.tally.problems.append(str(error))
        print(f"{name}: {trial.tally}", flush=True)
    return trial.tally


def new_directory() -> Path:
    """In memory, if there is such a place: it is the fake disk that loses what was not synced."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="pykesto-cuts-", dir=memory if os.access(memory, os.W_OK) else None))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.crash_prefixes", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--states", type=int, default=5000, help="about how many to build and open (5000)")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help=f"of {', '.join(WORKLOADS)} (all)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    directory = new_directory()
    tally = run(directory, options.seed, options.states, options.workloads.split(","))
    for problem in tally.problems[:20]:
        print(problem)
    if tally.problems:
        print(f"{len(tally.problems)} problems; seed {options.seed}; the files are in {directory}")
    else:
        shutil.rmtree(directory)
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
