"""The benchmark of objects: a tiny run ends well, peers give the same answers, and what is lost is found."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import objects_packages, objects_users
from benchmarks.objects_peers import composites_of, resize, swap, traverse
from tests.test_demo import index_file

ROOT = Path(__file__).parents[2]
LEVELS = 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "LEVELS", "COMPOSITES":  # what they are now comes back
        monkeypatch.setattr(f"benchmarks.objects_peers.{name}", getattr(objects_users.objects_peers, name))
    resize(LEVELS)


@pytest.fixture
def users(tmp_path: Path, small: None) -> Iterator[objects_users.Users]:
    peer = objects_users.Users(tmp_path)
    peer.build()
    peer.begin()
    yield peer
    peer.end()
    peer.close()


def benchmark(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.objects", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_a_tiny_run_of_all_works_ends_well(tmp_path: Path) -> None:
    index = index_file(tmp_path / "index", 60)
    done = benchmark("--levels", LEVELS, "--repeat", 1, "--seconds", 0.2, "--users", 2, "--index", index, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line["title"]: line for line in json.loads(done.stdout)["lines"]}
    assert lines.keys() == {
        *("build", "T1 cold", "T1 hot", "T2a hot", "Q1 cold", "Q2", "Q3", "users", "packages"),
        *("closure cold", "closure hot"),
    }
    assert all("pykesto" in line["figures"] for line in lines.values())


def test_a_missing_index_leaves_the_packages_out(tmp_path: Path) -> None:
    done = benchmark("--only", "closure hot", "--repeat", 1, "--index", tmp_path / "none")
    assert done.returncode == 0, done.stderr
    assert "left out: can't read" in done.stderr


def test_a_graph_is_visited_and_changed(users: objects_users.Users) -> None:
    root = users.root()
    uses = len(list(composites_of(root)))
    assert uses == 3**LEVELS
    assert traverse(root)[0] == 20 * uses
    assert swap(root) == uses


def test_changes_of_users_keep_the_sum_and_are_counted(users: objects_users.Users) -> None:
    x, y = objects_users.sums(users)
    for number in range(5):
        objects_users.change(users.lookup(users.keys()[number]), random.Random(number))
    users.commit()
    assert objects_users.sums(users) == (x, y + 5)


def test_a_closure_has_each_package_once(tmp_path: Path) -> None:
    found = objects_packages.records(index_file(tmp_path / "index", 60))
    objects_packages.store(tmp_path, found)
    assert objects_packages.stored(tmp_path) == found
    plain = objects_packages.Plain(tmp_path)
    plain.build()
    everything = plain.packages
    for name in objects_packages.heaviest(found), "p0", "p59":
        needed = {name}
        while more := {other for one in found if one.name in needed for other in one.depends} - needed:
            needed |= more
        sizes = sum(everything[one].size for one in needed)
        assert objects_packages.closure(plain.find(name)) == (len(needed), sizes)
