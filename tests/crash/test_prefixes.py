"""A power cut at any call of a workload, whatever it takes of what was not synced, leaves what a commit left."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stress.crash_prefixes import new_directory, run
from stress.crash_steps import WORKLOADS
from stress.fake_disk import Cut, FakeDisk, cuts, look_at, read_calls
from stress.io_faults import compile_library, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="it needs Linux and a C compiler")


@pytest.fixture
def directory() -> Iterator[Path]:
    made = new_directory()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_power_cut_at_any_call_leaves_what_a_commit_left(workload: str, directory: Path) -> None:
    seed = int(os.environ.get("PYKESTO_SEED") or random.randrange(1 << 32))
    print(f"PYKESTO_SEED={seed}")
    tally = run(directory, seed, 150, [workload])
    assert tally.problems == []
    assert tally.counts["different states"] > 20


# The fake disk

CALLS = """
import os, sys
os.chdir("/")
root = sys.argv[1]
def synced(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
os.mkdir(f"{root}/folder")
synced(root)
fd = os.open(f"{root}/folder/new", os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"a" * 1024, 0)
os.fdatasync(fd)
os.rename(f"{root}/folder/new", f"{root}/folder/old")
synced(f"{root}/folder")
os.pwrite(fd, b"b" * 1024, 256)
os.ftruncate(fd, 512)
"""


@pytest.fixture
def disk(directory: Path) -> FakeDisk:
    """A disk to which CALLS is done, to the point that a test plays it."""
    root = directory / "root"
    root.mkdir()
    compile_library("record_calls.c", directory / "record.so")
    (directory / "page").write_bytes(bytes(4096))
    found = FakeDisk(look_at(root))
    environment = os.environ | {"LD_PRELOAD": str(directory / "record.so"), "RECORD_ROOT": str(root)}
    environment |= {"RECORD_TO": str(directory / "calls"), "RECORD_PAGE": str(directory / "page")}
    subprocess.run([sys.executable, "-c", CALLS, str(root)], env=environment, check=True)
    return found


def left(disk: FakeDisk, directory: Path, cut: Cut, name: str = "left", seed: int = 0) -> dict[str, bytes]:
    disk.build(directory / name, cut, random.Random(seed))
    files = sorted((directory / name).rglob("*"))
    return {str(p.relative_to(directory / name)): p.read_bytes() if p.is_file() else b"" for p in files}


def test_all_calls_are_seen_and_only_what_was_not_synced_is_pending(disk: FakeDisk, directory: Path) -> None:
    calls = read_calls(directory / "calls")
    assert "".join(call.kind for call in calls if call.kind != "E") == "MBOWBRBWT"
    pending = [len(disk.pending()) for _ in disk.play(calls)]
    assert pending == [1, 1, 2, 2, 1, 2]  # after M, O, W, R, W, T
    assert left(disk, directory, Cut(frozenset())) == {"folder": b"", "folder/old": b"a" * 1024}


def test_a_cut_keeps_any_part_of_what_was_not_synced(disk: FakeDisk, directory: Path) -> None:
    for _ in disk.play(read_calls(directory / "calls")):
        pass
    write, size = (change.number for change in disk.pending())
    kept = {
        name: left(disk, directory, Cut(frozenset(numbers)), name)["folder/old"]
        for name, numbers in {"write": [write], "size": [size], "both": [write, size]}.items()
    }
    assert kept["write"] == b"a" * 256 + b"b" * 1024
    assert kept["size"] == b"a" * 512
    assert kept["both"] == b"a" * 256 + b"b" * 256


def test_a_file_whose_directory_was_not_synced_may_be_gone_or_under_its_old_name(
    disk: FakeDisk, directory: Path
) -> None:
    for call in disk.play(read_calls(directory / "calls")):
        if call.kind == "R":
            break
    created, renamed = (change.number for change in disk.pending())
    assert set(left(disk, directory, Cut(frozenset()), "none")) == {"folder"}
    assert set(left(disk, directory, Cut(frozenset([created])), "created")) == {"folder", "folder/new"}
    assert left(disk, directory, Cut(frozenset([renamed])), "renamed") == {"folder": b"", "folder/old": b"a" * 1024}


def test_a_torn_write_leaves_whole_sectors_and_garbage_only_where_it_wrote(disk: FakeDisk, directory: Path) -> None:
    for call in disk.play(read_calls(directory / "calls")):
        if call.kind == "W" and call.value == 256:
            break
    (write,) = (change.number for change in disk.pending())
    seen = set()
    for seed in range(40):
        garbage = seed % 2 == 1
        held = left(disk, directory, Cut(frozenset([write]), frozenset([write]), garbage), str(seed), seed)[
            "folder/old"
        ]
        assert held[:256] == b"a" * 256
        sectors = [held[256:512], held[512:1024], held[1024:]]
        spoilt = sum(len(set(sector)) > 1 for sector in sectors)
        assert spoilt <= garbage
        seen.add((garbage, spoilt, *(sector[:1] for sector in sectors if not spoilt)))
    assert len(seen) > 5


def test_few_changes_are_cut_in_every_subset_and_more_in_some(disk: FakeDisk, directory: Path) -> None:
    for _ in disk.play(read_calls(directory / "calls")):
        pass
    found = cuts(disk.pending(), random.Random(1), bound=4, samples=2)
    numbers = [change.number for change in disk.pending()]
    assert {cut.kept for cut in found if not cut.torn} == {
        frozenset(), frozenset(numbers), frozenset(numbers[:1]), frozenset(numbers[1:])
    }  # fmt: skip
    assert any(cut.torn and cut.garbage for cut in found)
