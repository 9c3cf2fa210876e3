"""The ten anomalies that Hermitage tries on databases, as scripts; docs/isolation.md has their table.

Each script plays its transactions step by step, in one process or in a process each, and says whether the anomaly came
about. A commit that meets a conflict counts as what it is: that transaction did not happen.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

import pykesto
from pykesto import ConcurrencyConflict, col
from tests.processes import Worker, open_database

Start = Callable[[], Worker]
DOCUMENT = Path(__file__).parents[2] / "docs" / "isolation.md"


class Place(Protocol):
    """Where a transaction runs."""

    def call(self, fn: Callable[..., Any], *args: Any) -> Any: ...


class Here:
    """This very process."""

    def __init__(self) -> None:
        self.here = SimpleNamespace()

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(self.here, *args)


# What a transaction does where it runs


def begin(here: SimpleNamespace, isolation: Any) -> None:
    here.session = here.db.session(isolation=isolation)
    assert here.session.version  # all begin before any of them goes on


def get(here: SimpleNamespace, key: int) -> int:
    value: int = here.session.table("test")[key]["value"]
    return value


def get_all(here: SimpleNamespace) -> dict[int, int]:
    return {row.k_key: row["value"] for row in here.session.table("test").query}


def put(here: SimpleNamespace, key: int, value: int) -> None:
    here.session.table("test")[key] = {"value": value}


def where_value_is(here: SimpleNamespace, value: int) -> list[int]:
    found: list[int] = here.session.table("test").query.where(col("value") == value).keys()
    return found


def where_divisible_by(here: SimpleNamespace, by: int) -> list[int]:
    found: list[int] = here.session.table("test").query.where(lambda row: row["value"] % by == 0).keys()
    return found


def add_to_all(here: SimpleNamespace, amount: int) -> int:
    changed: int = here.session.table("test").query.update(value=col("value") + amount)
    return changed


def delete_where_value_is(here: SimpleNamespace, value: int) -> int:
    deleted: int = here.session.table("test").query.where(col("value") == value).delete()
    return deleted


def commit(here: SimpleNamespace) -> bool:
    try:
        here.session.commit()
    except ConcurrencyConflict:
        here.session.rollback()
        return False
    return True


def rollback(here: SimpleNamespace) -> None:
    here.session.rollback()


def end(here: SimpleNamespace) -> None:
    here.session.close()
    here.db.close()


# The anomalies. The table has 1: 10 and 2: 20 before each.


def g0(t1: Place, t2: Place, _: Place) -> bool:
    """Write cycles: each of two transactions wins one of the rows that both write."""
    t1.call(put, 1, 11)
    t2.call(put, 1, 12)
    t1.call(put, 2, 21)
    t1.call(commit)
    t2.call(put, 2, 22)
    t2.call(commit)
    return t1.call(get_all) not in ({1: 11, 2: 21}, {1: 12, 2: 22})


def g1a(t1: Place, t2: Place, _: Place) -> bool:
    """Aborted reads: what was rolled back was seen."""
    t1.call(put, 1, 101)
    before = t2.call(get, 1)
    t1.call(rollback)
    after = t2.call(get, 1)
    t2.call(commit)
    return 101 in (before, after)


def g1b(t1: Place, t2: Place, _: Place) -> bool:
    """Intermediate reads: a value was seen that its transaction replaced before it committed."""
    t1.call(put, 1, 101)
    before = t2.call(get, 1)
    t1.call(put, 1, 11)
    t1.call(commit)
    after = t2.call(get, 1)
    t2.call(commit)
    return 101 in (before, after)


def g1c(t1: Place, t2: Place, _: Place) -> bool:
    """Circular flow: each of two transactions sees what the other one writes."""
    t1.call(put, 1, 11)
    t2.call(put, 2, 22)
    seen = t1.call(get, 2), t2.call(get, 1)
    t1.call(commit)
    t2.call(commit)
    return bool(seen == (22, 11))


def otv(t1: Place, t2: Place, t3: Place) -> bool:
    """An observed transaction vanishes: a part of one is seen with a part of the one that replaced it."""
    t1.call(put, 1, 11)
    t1.call(put, 2, 19)
    t2.call(put, 1, 12)
    t1.call(commit)
    t3.call(rollback)  # begins anew, after the first commit
    seen = [t3.call(get, 1)]
    t2.call(put, 2, 18)
    seen.append(t3.call(get, 2))
    t2.call(commit)
    seen += [t3.call(get, 2), t3.call(get, 1)]
    t3.call(commit)
    return seen != [11, 19, 19, 11]


def pmp(t1: Place, t2: Place, _: Place) -> bool:
    """Predicate-many-preceders: a predicate is answered by two states of the database, or written by an old one."""
    first = t1.call(where_value_is, 30)
    t2.call(put, 3, 30)
    t2.call(commit)
    second = t1.call(where_divisible_by, 3)
    t1.call(commit)
    t1.call(add_to_all, 10)
    t2.call(delete_where_value_is, 20)  # which is 30 by now
    t1.call(commit)
    deleted = t2.call(commit)
    return bool(first or second) or deleted


def p4(t1: Place, t2: Place, _: Place) -> bool:
    """Lost update: two transactions read a row and both write what follows from it."""
    t1.call(put, 1, t1.call(get, 1) + 1)
    t2.call(put, 1, t2.call(get, 1) + 1)
    return all((t1.call(commit), t2.call(commit)))


def g_single(t1: Place, t2: Place, _: Place) -> bool:
    """Read skew: one row is seen before another transaction, and a second row, or a predicate, after it."""
    first = t1.call(get, 1), t1.call(where_divisible_by, 5)
    t2.call(put, 1, 12)
    t2.call(put, 2, 18)
    t2.call(commit)
    second = t1.call(get, 2), t1.call(where_divisible_by, 3)
    t1.call(delete_where_value_is, 20)
    committed = t1.call(commit)  # deletes what it did not see change
    return (first, second) != ((10, [1, 2]), (20, [])) or committed


def g2_item(t1: Place, t2: Place, _: Place) -> bool:
    """Write skew: each of two transactions reads both rows and changes another one of them."""
    for t in t1, t2:
        assert (t.call(get, 1), t.call(get, 2)) == (10, 20)
    t1.call(put, 1, 11)
    t2.call(put, 2, 21)
    return all((t1.call(commit), t2.call(commit)))


def g2(t1: Place, t2: Place, t3: Place) -> bool:
    """Anti-dependency cycles: the same by predicates, or seen by a third transaction that only reads."""
    for t in t1, t2:
        assert t.call(where_divisible_by, 3) == []
    t1.call(put, 3, 30)
    t2.call(put, 4, 42)
    both = t1.call(commit), t2.call(commit)
    t1.call(rollback)
    t2.call(rollback)
    t1.call(get_all)
    t2.call(put, 2, t2.call(get, 2) + 5)
    assert t2.call(commit)
    t3.call(rollback)
    t3.call(get_all)
    assert t3.call(commit)
    t1.call(put, 1, 0)
    return all(both) or t1.call(commit)


ANOMALIES = dict(
    zip(
        ["G0", "G1a", "G1b", "G1c", "OTV", "PMP", "P4", "G-single", "G2-item", "G2"],
        [g0, g1a, g1b, g1c, otv, pmp, p4, g_single, g2_item, g2],
        strict=True,
    )
)


def documented() -> dict[tuple[str, str], bool]:
    """What docs/isolation.md says: (anomaly, isolation) -> whether it may come about."""
    rows = re.findall(r"^\| (\S+) \|.*\| (stopped|possible) \| (stopped|possible) \|$", DOCUMENT.read_text(), re.M)
    levels = "serializable", "snapshot"
    return {(row[0], level): row[1 + i] == "possible" for row in rows for i, level in enumerate(levels)}


def test_the_document_has_each_anomaly_and_serializable_stops_all() -> None:
    table = documented()
    assert {name for name, _ in table} == set(ANOMALIES)
    assert not any(possible for (_, level), possible in table.items() if level == "serializable")


@pytest.fixture(params=["one process", "a process each"])
def places(request: pytest.FixtureRequest, database: Path, start_worker: Start) -> Iterator[list[Place]]:
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("test").update({1: {"value": 10}, 2: {"value": 20}})
    made: list[Place] = [Here() if request.param == "one process" else start_worker() for _ in range(3)]
    for place in made:
        place.call(open_database, database)
    yield made
    for place in made:
        place.call(end)


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
@pytest.mark.parametrize("name", ANOMALIES)
def test_an_anomaly_comes_about_only_where_the_document_says_so(places: list[Place], name: str, isolation: str) -> None:
    for place in places:
        place.call(begin, isolation)
    assert ANOMALIES[name](*places) is documented()[name, isolation]
