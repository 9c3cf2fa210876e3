"""The benchmarks run, and what they compare answers alike."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_driver_and_its_peers_find_the_same() -> None:
    options = ["--rows", "2000", "--queries", "20", "--repeat", "1", "--json"]
    command = [sys.executable, "-m", "benchmarks.driver", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)["lines"]
    assert len(lines) == 10
    expected = {"pykesto", "sqlite3"} | ({"C", "C, shared"} if "left out: C" not in done.stderr else set())
    for line in lines:
        assert expected <= set(line["figures"]), done.stderr
        assert all(rate > 0 for rates in line["figures"].values() for rate in rates)
