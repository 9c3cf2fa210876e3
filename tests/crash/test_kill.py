"""Processes are killed at random moments: nothing acknowledged is lost, nothing is seen in part, sums are kept.

The workers move money between accounts. Every commit of theirs also counts itself, in a row of its own and in a log,
so that a commit in part would show. What they say on a pipe, before and after each commit, outlives them.

The seed is printed; PYKESTO_SEED=n takes it back.
"""

import os
import random
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pykesto
from tests.processes import DEADLINE_S, Worker

Start = Callable[[], Worker]
ACCOUNTS, BALANCE = 8, 100
_SAID = struct.Struct("<cQ")


def seed() -> int:
    found = int(os.environ.get("PYKESTO_SEED") or random.randrange(1 << 32))
    print(f"PYKESTO_SEED={found}")
    return found


class Teller:
    """A forked process that commits until it is killed. `begun` and `done` are the last commits that it spoke of."""

    def __init__(self, path: Path, name: str, chance: int) -> None:
        self.name = name
        self._said, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._said)
                work(path, name, says, random.Random(chance))
            except BaseException:  # noqa: BLE001  it is told, as nobody is there to catch it
                import traceback

                os.write(says, b"x" + traceback.format_exc().encode()[-4000:])
            finally:
                os._exit(1)
        os.close(says)
        os.set_blocking(self._said, False)
        self._heard = b""

    def hear(self) -> bool:
        """Read what was said; False at the end."""
        try:
            part = os.read(self._said, 1 << 16)
        except BlockingIOError:
            return True
        self._heard += part
        return bool(part)

    def spoke(self) -> bool:
        """Whether it has committed, waiting for it."""
        until = time.monotonic() + DEADLINE_S
        while _SAID.size * 2 > len(self._heard):
            left = until - time.monotonic()
            assert left > 0, "a teller committed nothing"
            select.select([self._said], [], [], left)
            if not self.hear():
                return False
        return True

    def kill(self) -> tuple[int, int]:
        """End it; the number of the last commit it began, and of the last that was acknowledged."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        while self.hear():
            pass
        os.close(self._said)
        begun = done = 0
        for at in range(0, len(self._heard) // _SAID.size * _SAID.size, _SAID.size):
            kind, number = _SAID.unpack_from(self._heard, at)
            if kind not in (b"b", b"d"):
                raise AssertionError(self._heard[at + 1 :].decode())
            begun, done = (number, done) if kind == b"b" else (begun, number)
        return begun, done


def work(path: Path, name: str, says: int, chance: random.Random) -> None:
    db = pykesto.open(path, lock_timeout=30.0)
    with db.session() as s:
        count = s.table("counts").get(name, {"n": 0})["n"]
    while True:
        count += 1
        os.write(says, _SAID.pack(b"b", count))
        db.run(transfer, name, count, chance, attempts=1000)
        os.write(says, _SAID.pack(b"d", count))
        if chance.random() < 0.1:
            db.checkpoint()
        if chance.random() < 0.1:
            with db.session() as s:
                assert sum(row["balance"] for row in s.table("accounts").range()) == ACCOUNTS * BALANCE


def transfer(s: pykesto.Session, name: str, count: int, chance: random.Random) -> None:
    accounts = s.table("accounts")
    giver, taker = chance.sample(range(ACCOUNTS), 2)
    accounts[giver]["balance"] -= 1
    accounts[taker]["balance"] += 1
    s.table("counts")[name] = {"n": count}
    s.table("log")[(name, count)] = {"padding": bytes(chance.randrange(2000))}


def create(path: Path) -> None:
    with pykesto.open(path) as db, db.transaction() as s:
        for n in range(ACCOUNTS):
            s.table("accounts")[n] = {"balance": BALANCE}
        s.table("accounts").create_index("balance")


@contextmanager
def verified(path: Path) -> Iterator[pykesto.Session]:
    """A session on the database as it is found, whose sums and log agree."""
    with pykesto.open(path) as db:
        with db.session() as s:
            balances = [row["balance"] for row in s.table("accounts").range()]
            assert len(balances) == ACCOUNTS
            assert sum(balances) == ACCOUNTS * BALANCE
            found = s.table("accounts").query.col("balance").ge(-(10**9)).order_by("k_key").select("balance")
            assert [balance for (balance,) in found] == balances
            logged: dict[str, list[int]] = {}
            for name, count in s.table("log"):
                logged.setdefault(name, []).append(count)
            counts = {row.k_key: row["n"] for row in s.table("counts").range()}
            assert {name: counts[-1] for name, counts in logged.items()} == counts
            assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in logged.values())
            yield s
        assert db.check().problems == ()


def expect(s: pykesto.Session, teller: Teller, begun: int, done: int) -> None:
    """What was acknowledged is there, and nothing that was never begun."""
    if begun:
        found = s.table("counts").get(teller.name, {"n": 0})["n"]
        assert done <= found <= begun, f"{teller.name} was told of {done}, began {begun}, and {found} are there"


def rounds_of_killing_all(here: SimpleNamespace, path: Path, seed: int, rounds: int, tellers: int) -> int:
    chance, committed = random.Random(seed), 0
    for _ in range(rounds):
        group = [Teller(path, f"teller {n}", chance.getrandbits(32)) for n in range(tellers)]
        time.sleep(chance.uniform(0.002, 0.12))  # the random moment
        ends = [teller.kill() for teller in group]
        committed += sum(done > 0 for _, done in ends)
        with verified(path) as s:
            for teller, (begun, done) in zip(group, ends, strict=True):
                expect(s, teller, begun, done)
    return committed


def test_nothing_is_lost_or_seen_in_part_when_all_are_killed_again_and_again(
    database: Path, start_worker: Start
) -> None:
    create(database)
    committed = start_worker().call(rounds_of_killing_all, database, seed(), 50, 3)
    assert committed > 10  # else nothing was tried


def kill_one_by_one(here: SimpleNamespace, path: Path, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    survivor = Teller(path, "survivor", chance.getrandbits(32))
    assert survivor.spoke()
    for n in range(rounds):
        victim = Teller(path, f"victim {n}", chance.getrandbits(32))
        time.sleep(chance.uniform(0.002, 0.12))
        begun, done = victim.kill()
        with verified(path) as s:
            expect(s, victim, begun, done)
        after = Teller(path, f"after {n}", chance.getrandbits(32))
        assert after.spoke(), "it ended"  # a dead one holds nobody up
        _, done = after.kill()
        assert done > 0
    begun, done = survivor.kill()
    assert done > rounds
    with verified(path) as s:
        expect(s, survivor, begun, done)


def test_others_go_on_when_one_is_killed_at_any_moment(database: Path, start_worker: Start) -> None:
    create(database)
    start_worker().call(kill_one_by_one, database, seed(), 12)


def kill_creators(here: SimpleNamespace, path: Path, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    for n in range(rounds):
        pid = os.fork()
        if pid == 0:
            try:
                pykesto.open(path / str(n))
                time.sleep(DEADLINE_S)
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with pykesto.open(path / str(n)) as db:
            with db.transaction() as s:
                s.table("people")["ann"] = {}
            assert db.check().problems == ()


def test_a_creation_killed_at_any_moment_is_done_again(tmp_path: Path, start_worker: Start) -> None:
    start_worker().call(kill_creators, tmp_path, seed(), 40)


def kill_recoveries(here: SimpleNamespace, path: Path, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        teller = Teller(path, "teller", chance.getrandbits(32))
        assert teller.spoke()
        begun, done = teller.kill()
        for _ in range(chance.randrange(1, 5)):
            pid = os.fork()
            if pid == 0:
                try:
                    pykesto.open(path)
                    time.sleep(DEADLINE_S)
                finally:
                    os._exit(1)
            time.sleep(chance.uniform(0.0, 0.01))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with verified(path) as s:
            expect(s, teller, begun, done)


def test_a_recovery_killed_at_any_moment_is_run_again(database: Path, start_worker: Start) -> None:
    create(database)
    start_worker().call(kill_recoveries, database, seed(), 25)


def test_a_checkpoint_killed_at_any_moment_leaves_a_base_that_is_made_again(
    database: Path, start_worker: Start
) -> None:
    create(database)
    start_worker().call(kill_checkpoints, database, seed(), 25)


def kill_checkpoints(here: SimpleNamespace, path: Path, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    for n in range(rounds):
        pid = os.fork()
        if pid == 0:
            try:
                db = pykesto.open(path)
                for m in range(1000):
                    with db.transaction(durability="process") as s:
                        s.table("blobs")[m % 50] = {"round": n, "content": bytes(500)}
                    if m % 10 == 9:
                        db.checkpoint()
            finally:
                os._exit(1)
        time.sleep(chance.uniform(0.0, 0.15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with verified(path) as s:
            rounds_seen = [row["round"] for row in s.table("blobs").range()]
            assert all(a >= b or a == n for a, b in pairwise(rounds_seen))
