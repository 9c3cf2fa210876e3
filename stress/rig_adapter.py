"""pykesto under crash rigs: what `workload` commits must be there, whole, after a kill, a power cut, a failing disk.

A commit is three rows of random bytes, and one more on its worker's counter and on the total, so that workers
conflict and a commit in part shows. Environment: WORKERS (2), PYKESTO_DURABILITY=full|process (process must be
caught losing under a power cut), PYKESTO_RIG_CHECKPOINT=n: each worker runs a checkpoint after every n commits,
PYKESTO_RIG_REOPEN=n: it closes the database and opens it again after every n commits.
"""

import os
import zlib
from collections import Counter

import pykesto

WORKERS = int(os.environ.get("WORKERS", "2"))
DURABILITY = os.environ.get("PYKESTO_DURABILITY", "full")
CHECKPOINT = int(os.environ.get("PYKESTO_RIG_CHECKPOINT", "0"))
REOPEN = int(os.environ.get("PYKESTO_RIG_REOPEN", "0"))
PARTS = 3


def connect(d, create=False):
    return pykesto.open(os.path.join(d, "db.kesto"), create=create, durability=DURABILITY)


def setup(d):
    with connect(d, create=True) as db, db.transaction() as s:
        s.table("rows").create_index("token")


def commit(s, worker, token):
    rows, counters = s.table("rows"), s.table("counters")
    for part in range(PARTS):
        value = os.urandom(700)
        rows[token, part] = {"token": token, "value": value, "crc": zlib.crc32(value)}
    for name in (worker, "total"):
        counters[name] = {"n": counters[name]["n"] + 1 if name in counters else 1}


def workload(d, marks):
    db, n = connect(d), 0
    while True:
        token = f"{marks.worker}-{n}"
        marks.begin(token)
        try:
            db.run(commit, marks.worker, token)
        except pykesto.ConcurrencyConflict:  # the last of the attempts: certainly not committed
            marks.abort(token)
        else:
            marks.ack(token)
        n += 1
        if CHECKPOINT and n % CHECKPOINT == 0:
            db.checkpoint()
        if REOPEN and n % REOPEN == 0:
            db.close()
            db = connect(d)


def check(d, cut):
    with connect(d) as db:
        verify(db, set(cut["acked"]), set(cut["inflight"]))
        db.run(commit, "check", "check-0")  # what was recovered can be written to
    with connect(d) as db:
        verify(db, {*cut["acked"], "check-0"}, set(cut["inflight"]))


def verify(db, acked, inflight):
    problems = db.check().problems
    assert not problems, f"db.check: {problems}"
    with db.session(read_only=True) as s:
        parts = Counter()
        for (token, part), row in s.table("rows").items():
            assert row["token"] == token and zlib.crc32(row["value"]) == row["crc"], (
                f"{token}/{part} is not what was written"
            )
            parts[token] += 1
        counters = {name: row["n"] for name, row in s.table("counters").items()}
    half = [token for token, n in parts.items() if n != PARTS]
    assert not half, f"{len(half)} transactions in part, such as {half[0]}"
    lost = sorted(acked - set(parts))
    assert not lost, f"{len(lost)} of {len(acked)} acknowledged lost, such as {lost[0]}"
    extra = sorted(set(parts) - acked - inflight)
    assert not extra, f"{len(extra)} never begun or aborted, such as {extra[0]}"
    expected = Counter(token.split("-")[0] for token in parts)
    found = {str(name): n for name, n in counters.items() if name != "total"}
    assert found == dict(expected), f"the workers' counters are {found}, and there are {dict(expected)}"
    assert counters.get("total", 0) == len(parts), f"the total is {counters.get('total', 0)} of {len(parts)}"
