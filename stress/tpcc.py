"""TPC-C's transactions on rows: python -m stress.tpcc --processes 4 --seconds 30 --kill 1

Processes take new orders, payments, deliveries, and look orders and stock up, in the mix of the specification
(revision 5.11, clauses 1 and 2), on as many warehouses as asked for, each with fewer customers and items than it
demands. They are killed now and then, and replaced. At the end, and after each `--round`, the consistency conditions of
clauses 3.3.2.1 to 3.3.2.4 must hold, and every order that was acknowledged must be there. It measures nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykesto

DISTRICTS = 10
SYLLABLES = ("BAR", "OUGHT", "ABLE", "PRI", "PRES", "ESE", "ANTI", "CALLY", "ATION", "EING")
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is."""

    warehouses: int = 2
    customers: int = 30  # of a district
    items: int = 100


class Rollback(Exception):
    """A new order of an item that there is not: one in a hundred, as the specification demands."""


def last_name(number: int) -> str:
    return SYLLABLES[number // 100] + SYLLABLES[number // 10 % 10] + SYLLABLES[number % 10]


def skewed(chance: random.Random, most: int, low: int, high: int) -> int:
    """NURand of clause 2.1.6: some values come often."""
    return (((chance.randint(0, most) | chance.randint(low, high)) + 42) % (high - low + 1)) + low


def create(db: pykesto.Database, size: Size, seed: int) -> None:
    chance = random.Random(seed)
    with db.transaction() as s:
        s.table("customer").create_index("c_place", "c_last")
        s.table("order").create_index("o_customer")
        for item in range(1, size.items + 1):
            s.table("item")[item] = {"i_name": f"item {item}", "i_price": chance.randint(100, 10000)}
        for w in range(1, size.warehouses + 1):
            s.table("warehouse")[w] = {"w_tax": chance.randint(0, 2000), "w_ytd": DISTRICTS * 3_000_000}
            for item in range(1, size.items + 1):
                s.table("stock")[w, item] = {"s_quantity": chance.randint(10, 100), "s_ytd": 0, "s_order_cnt": 0}
            for d in range(1, DISTRICTS + 1):
                s.table("district")[w, d] = {"d_tax": chance.randint(0, 2000), "d_ytd": 3_000_000, "d_next_o_id": 1}
                for c in range(1, size.customers + 1):
                    s.table("customer")[w, d, c] = {
                        "c_place": (w, d),
                        "c_last": last_name(c - 1),
                        "c_first": f"{chance.getrandbits(40):x}",
                        "c_discount": chance.randint(0, 5000),
                        "c_balance": -1000,
                        "c_ytd_payment": 1000,
                        "c_payment_cnt": 1,
                        "c_delivery_cnt": 0,
                    }


class Terminal:
    """One process's transactions. A transaction's input is chosen before it begins, so that a retry does the same."""

    def __init__(self, db: pykesto.Database, size: Size, chance: random.Random) -> None:
        self.db, self.size, self.chance = db, size, chance
        self.home = chance.randint(1, size.warehouses)

    def step(self) -> tuple[str, Any]:
        """Run one transaction of the mix; its name, and what it returned."""
        kinds: list[Callable[[], Callable[[pykesto.Session], Any]]]
        kinds = [self.new_order, self.payment, self.order_status, self.delivery, self.stock_level]
        (kind,) = self.chance.choices(kinds, (45, 43, 4, 4, 4))
        try:
            return kind.__name__, self.db.run(kind(), attempts=1000)
        except Rollback:
            return "rolled back", None

    def _customer(self) -> Callable[[pykesto.Session, int, int], tuple[Any, pykesto.Row]]:
        """A customer by name, three times in five, else by number."""
        if self.chance.random() < 0.6:
            name = last_name(skewed(self.chance, 255, 0, self.size.customers - 1))

            def by_name(s: pykesto.Session, w: int, d: int) -> tuple[Any, pykesto.Row]:
                found = s.table("customer").query.col("c_place").equals((w, d)).col("c_last").equals(name)
                rows = list(found.order_by("c_first"))
                row = rows[len(rows) // 2]
                return row.k_key, row

            return by_name
        number = skewed(self.chance, 1023, 1, self.size.customers)
        return lambda s, w, d: ((w, d, number), s.table("customer")[w, d, number])

    def new_order(self) -> Callable[[pykesto.Session], Any]:
        chance, w, d = self.chance, self.home, self.chance.randint(1, DISTRICTS)
        c = skewed(chance, 1023, 1, self.size.customers)
        lines = []
        for _ in range(chance.randint(5, 15)):
            away = self.size.warehouses > 1 and chance.random() < 0.01
            supply = chance.choice([n for n in range(1, self.size.warehouses + 1) if n != w]) if away else w
            lines.append((skewed(chance, 8191, 1, self.size.items), supply, chance.randint(1, 10)))
        if chance.random() < 0.01:
            lines[-1] = (0, w, 1)

        def act(s: pykesto.Session) -> tuple[int, int, int]:
            district = s.table("district")[w, d]
            number = district["d_next_o_id"]
            district["d_next_o_id"] = number + 1
            _ = s.table("warehouse")[w]["w_tax"], s.table("customer")[w, d, c]["c_discount"]
            s.table("order")[w, d, number] = {"o_customer": (w, d, c), "o_carrier": None, "o_ol_cnt": len(lines)}
            s.table("new_order")[w, d, number] = {"no": number}
            for n, (item, supply, quantity) in enumerate(lines, 1):
                if item not in s.table("item"):
                    raise Rollback
                stock = s.table("stock")[supply, item]
                left = stock["s_quantity"] - quantity
                stock["s_quantity"] = left if left >= 10 else left + 91
                stock["s_ytd"] += quantity
                stock["s_order_cnt"] += 1
                amount = quantity * s.table("item")[item]["i_price"]
                s.table("order_line")[w, d, number, n] = {"ol_i_id": item, "ol_amount": amount, "ol_delivered": False}
            return w, d, number

        return act

    def payment(self) -> Callable[[pykesto.Session], Any]:
        chance, w, d = self.chance, self.home, self.chance.randint(1, DISTRICTS)
        away = self.size.warehouses > 1 and chance.random() < 0.15
        cw = chance.choice([n for n in range(1, self.size.warehouses + 1) if n != w]) if away else w
        cd = chance.randint(1, DISTRICTS) if away else d
        amount, customer = chance.randint(100, 500_000), self._customer()

        def act(s: pykesto.Session) -> None:
            s.table("warehouse")[w]["w_ytd"] += amount
            s.table("district")[w, d]["d_ytd"] += amount
            key, row = customer(s, cw, cd)
            row["c_balance"] -= amount
            row["c_ytd_payment"] += amount
            row["c_payment_cnt"] += 1
            s.table("history").add({"h_customer": key, "h_place": (w, d), "h_amount": amount})

        return act

    def order_status(self) -> Callable[[pykesto.Session], Any]:
        d, customer = self.chance.randint(1, DISTRICTS), self._customer()

        def act(s: pykesto.Session) -> None:
            key, row = customer(s, self.home, d)
            _ = row["c_balance"]
            newest = s.table("order").query.col("o_customer").equals(key).order_by("-k_key").first()
            if newest is not None:
                lines = list(s.table("order_line").range(newest.k_key, (*newest.k_key, 1000)))
                assert len(lines) == newest["o_ol_cnt"], f"order {newest.k_key} has {len(lines)} lines"

        return act

    def delivery(self) -> Callable[[pykesto.Session], Any]:
        carrier = self.chance.randint(1, 10)

        def act(s: pykesto.Session) -> None:
            for d in range(1, DISTRICTS + 1):
                oldest = next(iter(s.table("new_order").range((self.home, d), (self.home, d + 1))), None)
                if oldest is None:
                    continue
                key = oldest.k_key
                del s.table("new_order")[key]
                order = s.table("order")[key]
                order["o_carrier"] = carrier
                total = 0
                for line in s.table("order_line").range(key, (*key, 1000)):
                    line["ol_delivered"] = True
                    total += line["ol_amount"]
                customer = s.table("customer")[order["o_customer"]]
                customer["c_balance"] += total
                customer["c_delivery_cnt"] += 1

        return act

    def stock_level(self) -> Callable[[pykesto.Session], Any]:
        d, threshold = self.chance.randint(1, DISTRICTS), self.chance.randint(10, 20)

        def act(s: pykesto.Session) -> int:
            after = s.table("district")[self.home, d]["d_next_o_id"]
            lines = s.table("order_line").range((self.home, d, max(1, after - 20)), (self.home, d, after))
            items = {line["ol_i_id"] for line in lines}
            return sum(s.table("stock")[self.home, item]["s_quantity"] < threshold for item in items)

        return act


def inconsistencies(s: pykesto.Session, size: Size) -> Iterator[str]:
    """What breaks the conditions of clauses 3.3.2.1 to 3.3.2.4, in words."""
    for w in range(1, size.warehouses + 1):
        ytd = sum(s.table("district")[w, d]["d_ytd"] for d in range(1, DISTRICTS + 1))
        if s.table("warehouse")[w]["w_ytd"] != ytd:
            yield f"3.3.2.1: warehouse {w} has W_YTD {s.table('warehouse')[w]['w_ytd']}, its districts {ytd}"
        for d in range(1, DISTRICTS + 1):
            newest = s.table("district")[w, d]["d_next_o_id"] - 1
            orders = {row.k_key[2]: row["o_ol_cnt"] for row in s.table("order").range((w, d), (w, d + 1))}
            waiting = [key[2] for key in (row.k_key for row in s.table("new_order").range((w, d), (w, d + 1)))]
            if max(orders, default=0) != newest or (waiting and max(waiting) != newest):
                yield f"3.3.2.2: district {w}, {d} should end at order {newest}, not {max(orders, default=0)}"
            if waiting and max(waiting) - min(waiting) + 1 != len(waiting):
                yield f"3.3.2.3: district {w}, {d} has {len(waiting)} new orders from {min(waiting)} to {max(waiting)}"
            lines = sum(1 for _ in s.table("order_line").range((w, d), (w, d + 1)))
            if sum(orders.values()) != lines:
                yield f"3.3.2.4: district {w}, {d} has {lines} order lines, its orders say {sum(orders.values())}"


def work(path: Path, told: Path, size: Size, seed: int, seconds: float) -> None:
    """One process: transactions until the time is over; what was acknowledged goes to a file."""
    db = pykesto.open(path, lock_timeout=60.0)
    terminal, until = Terminal(db, size, random.Random(seed)), time.monotonic() + seconds
    fd = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while time.monotonic() < until:
        name, result = terminal.step()
        os.write(fd, f"{name} {result}\n".encode())
    db.close()


def run(
    path: Path, *, size: Size, processes: int, seconds: float, kill_s: float, seed: int
) -> tuple[Counter[str], list[str]]:
    """Work, with a kill each `kill_s` seconds (0: none), then check; how often each was done, and what is wrong."""
    chance = random.Random(seed)
    with pykesto.open(path) as db:
        create(db, size, seed)
    told, until, killed = path.with_suffix(".told"), time.monotonic() + seconds, 0

    def start() -> Any:
        left = max(0.1, until - time.monotonic())
        process = _SPAWN.Process(target=work, args=(path, told, size, chance.getrandbits(32), left))
        process.start()
        return process

    group = [start() for _ in range(processes)]
    problems = []
    while kill_s and time.monotonic() < until:
        time.sleep(min(kill_s, max(0.0, until - time.monotonic())))
        if time.monotonic() < until:
            victim = group.pop(chance.randrange(len(group)))
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
            killed += 1
            group.append(start())
    for process in group:
        process.join()
        if process.exitcode:
            problems.append(f"a process ended with {process.exitcode}")
    lines = told.read_text().splitlines()
    done = Counter(line.partition(" ")[0] for line in lines) + Counter(killed=killed)
    with pykesto.open(path) as db:
        with db.session() as s:
            problems += inconsistencies(s, size)
            orders = {str(key) for key in s.table("order")}
            acknowledged = {line.partition(" ")[2] for line in lines if line.startswith("new_order ")}
            problems += [f"order {order} was acknowledged, and is not there" for order in acknowledged - orders]
        problems += db.check().problems
    return done, problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.tpcc", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kill", type=float, default=1.0, help="seconds between two kills; 0: none")
    parser.add_argument("--warehouses", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        done, problems = run(
            Path(directory) / "tpcc.kesto",
            size=Size(options.warehouses),
            processes=options.processes,
            seconds=options.seconds,
            kill_s=options.kill,
            seed=options.seed,
        )
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in done.items()))
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
