"""TPC-C and YCSB in a short form; `python -m stress.tpcc` and `python -m stress.ycsb` are the long ones."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import pykesto
from stress import tpcc, ycsb


def seed() -> int:
    found = int(os.environ.get("PYKESTO_SEED") or random.randrange(1 << 32))
    print(f"PYKESTO_SEED={found}")
    return found


SMALL = tpcc.Size(warehouses=2, customers=10, items=30)


def test_tpcc_is_consistent_after_processes_were_killed(database: Path) -> None:
    done, problems = tpcc.run(database, size=SMALL, processes=2, seconds=3.0, kill_s=0.8, seed=seed())
    assert problems == []
    assert done["new_order"] > 0


def test_each_transaction_of_tpcc_keeps_its_conditions(database: Path) -> None:
    with pykesto.open(database) as db:
        tpcc.create(db, SMALL, 1)
        terminal = tpcc.Terminal(db, SMALL, random.Random(seed()))
        for kind in (terminal.new_order, terminal.payment, terminal.order_status, terminal.delivery) * 3:
            for _ in range(4):
                try:
                    db.run(kind())
                except tpcc.Rollback:
                    continue
            with db.session() as s:
                assert list(tpcc.inconsistencies(s, SMALL)) == []
        assert db.run(terminal.stock_level()) >= 0


@pytest.mark.parametrize(
    ("clause", "table", "column"),
    [
        ("3.3.2.1", "warehouse", "w_ytd"),
        ("3.3.2.2", "district", "d_next_o_id"),
        ("3.3.2.4", "order", "o_ol_cnt"),
    ],
)
def test_a_condition_that_is_broken_is_seen(clause: str, table: str, column: str, database: Path) -> None:
    with pykesto.open(database) as db:
        tpcc.create(db, SMALL, 1)
        terminal = tpcc.Terminal(db, SMALL, random.Random(1))
        for _ in range(3):
            db.run(terminal.new_order())
        with db.transaction() as s:
            row = next(iter(s.table(table).range()))
            row[column] += 1
        with db.session() as s:
            assert clause in " ".join(tpcc.inconsistencies(s, SMALL))


def test_a_gap_in_the_new_orders_is_seen(database: Path) -> None:
    with pykesto.open(database) as db:
        tpcc.create(db, SMALL, 1)
        with db.transaction() as s:
            s.table("district")[1, 1]["d_next_o_id"] = 4
            for number in (1, 3):
                s.table("new_order")[1, 1, number] = {"no": number}
                s.table("order")[1, 1, number] = {"o_customer": (1, 1, 1), "o_carrier": None, "o_ol_cnt": 0}
        with db.session() as s:
            assert [problem[:7] for problem in tpcc.inconsistencies(s, SMALL)] == ["3.3.2.3"]


@pytest.mark.parametrize("workload", ycsb.MIXES)
def test_ycsb_reads_what_was_written(workload: str, database: Path) -> None:
    done = ycsb.run(database, workload, records=60, operations=160, processes=2, seed=seed())
    assert done.total() == 160


def test_a_torn_record_of_ycsb_is_seen(database: Path) -> None:
    with pykesto.open(database) as db, db.session() as s:
        s.table("usertable")["ann"] = ycsb.record("ann") | {"field3": ycsb.field_of("bob", "field3", 1)}
        with pytest.raises(AssertionError, match="ann field3"):
            ycsb.require_whole("ann", s.table("usertable")["ann"])
        s.rollback()
