"""Where the system gives no thread for checkpoints, commits go on, and a checkpoint comes when it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A stack larger than what is left of the address space can't be had.
PROGRAM = """
import resource, sys, threading
import pykesto
from pykesto.engine import checkpoint
db = pykesto.open(sys.argv[1])
with db.transaction() as s:
    s.table("rows")[0] = {"n": 0}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20), hard))
with db.transaction() as s:
    s.table("rows").create_index("n")  # wants a checkpoint
for n in range(100):  # the segment fills, and the next is wanted
    with db.transaction(durability="process") as s:
        s.table("rows")[n] = {"padding": bytes(1000)}
assert db.stats().base_version == 0
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
threading.stack_size(0)
checkpoint.NO_THREAD_PAUSE_S = 0
with db.transaction() as s:
    s.table("rows").create_index("m")
db.checkpoint()
assert db.stats().base_version == db.version
with db.transaction() as s:
    for n in range(1000):
        s.table("rows")[n] = {"padding": bytes(1000)}
db.close()
with pykesto.open(sys.argv[1]) as db:
    assert db.check().problems == ()
"""


def test_a_commit_succeeds_where_no_thread_can_be_had_for_checkpoints(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "app.kesto")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "no thread for the pykesto checkpoint" in done.stderr
    assert "no thread for the pykesto journal" in done.stderr
