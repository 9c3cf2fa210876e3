"""Queries: what they give, what they refuse, and that they say how they run."""

import itertools
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import MultipleResultsFound, NoResultFound, UsageError, agg, col
from pykesto.query import execution

PEOPLE = {
    "ann": {"name": "Ann", "age": 40, "city": "Bonn", "tags": ["admin", "bot"], "home": {"zip": "53111"}},
    "bob": {"name": "Bob", "age": 7, "city": "Bonn"},
    "eve": {"name": "Eve", "age": 40, "city": None},
    "zoe": {"name": "Zoe"},
}


@pytest.fixture
def people(database: Path) -> Iterator[pykesto.Table]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            for key, columns in PEOPLE.items():
                s.table("people")[key] = columns
            s.table("people").create_index("age")
        db.checkpoint()
        with db.session() as s:
            yield s.table("people")
            s.rollback()


def test_a_query_is_immutable_and_lazy_and_runs_anew_each_time(people: pykesto.Table) -> None:
    adults = people.query.col("age").ge(18)
    limited = adults.limit(1)
    assert list(adults.keys()) == ["ann", "eve"]
    assert list(limited.keys()) == ["ann"]
    people["kim"] = {"age": 20}
    del people["ann"]
    assert list(adults.keys()) == ["eve", "kim"]
    assert [row.k_key for row in adults] == ["eve", "kim"]


def test_conditions_are_anded_and_a_second_order_replaces(people: pykesto.Table) -> None:
    query = people.query.col("age").ge(18).col("name").startswith("A")
    assert list(query.keys()) == ["ann"]
    assert list(people.query.order_by("name").order_by("-k_key").keys()) == ["zoe", "eve", "bob", "ann"]


def test_one_and_first_and_exists(people: pykesto.Table) -> None:
    by_age = people.query.col("age")
    assert by_age.equals(7).one()["name"] == "Bob"
    assert by_age.equals(8).one_or_none() is None
    assert by_age.equals(8).first() is None
    assert by_age.equals(40).first() is people["ann"]
    assert by_age.equals(40).exists() and not by_age.equals(8).exists()
    with pytest.raises(NoResultFound) as none:
        by_age.equals(8).one()
    with pytest.raises(MultipleResultsFound) as many:
        by_age.equals(40).one()
    with pytest.raises(MultipleResultsFound):
        by_age.equals(40).one_or_none()
    assert isinstance(none.value, LookupError) and isinstance(many.value, LookupError)


def test_select_gives_tuples_with_none_where_a_column_is_missing(people: pykesto.Table) -> None:
    assert people.query.order_by("-name").limit(2).select("name", "age") == [("Zoe", None), ("Eve", 40)]


def test_update_computes_from_the_old_values_and_respects_limits(people: pykesto.Table) -> None:
    assert people.query.col("age").exists().update(age=col("age") + 1, seen=True) == 3
    assert people.query.order_by("k_key").select("age", "seen") == [(41, True), (8, True), (41, True), (None, None)]
    assert people.query.order_by("-age").limit(1).update(age=0) == 1
    assert people["ann"]["age"] == 0


def test_delete_respects_limits(people: pykesto.Table) -> None:
    assert people.query.order_by("name").limit(2).delete() == 2
    assert list(people) == ["eve", "zoe"]


def test_groups_come_in_value_order_with_missing_first(people: pykesto.Table) -> None:
    found = people.query.group_by("city").agg(n=agg.count(), oldest=agg.max("age"), sum=agg.sum("age"))
    assert found == [
        {"city": None, "n": 1, "oldest": None, "sum": 0},  # zoe: no city
        {"city": None, "n": 1, "oldest": 40, "sum": 40},  # eve: None
        {"city": "Bonn", "n": 2, "oldest": 40, "sum": 47},
    ]


def test_pages_go_on_after_a_row(people: pykesto.Table) -> None:
    query = people.query.order_by("-age").limit(2)
    first = list(query)
    assert [row.k_key for row in first] == ["ann", "eve"]
    assert list(query.after(first[-1]).keys()) == ["bob", "zoe"]


def test_dots_are_paths_into_nested_values(people: pykesto.Table) -> None:
    assert list(people.query.col("home.zip").equals("53111").keys()) == ["ann"]
    assert list(people.query.col("home.street").exists().keys()) == []


def test_a_missing_column_meets_no_condition_and_a_complement_is_exact(people: pykesto.Table) -> None:
    assert list(people.query.col("age").ne(40).keys()) == ["bob"]
    assert list(people.query.where(~(col("age") == 40)).keys()) == ["bob", "zoe"]
    assert list(people.query.col("city").is_none().keys()) == ["eve"]
    assert list(people.query.col("city").exists().keys()) == ["ann", "bob", "eve"]


def test_a_contains_of_a_number_that_is_no_byte_matches_no_bytes(people: pykesto.Table) -> None:
    people["raw"] = {"tags": b"\x01"}
    assert list(people.query.col("tags").contains(1).keys()) == ["raw"]
    assert list(people.query.col("tags").contains(-1).keys()) == []


@pytest.mark.parametrize("nan", ["stored", "asked for"])
def test_nan_equals_nothing(people: pykesto.Table, nan: str) -> None:
    people["nan"] = {"age": float("nan")}
    assert list(people.query.col("age").equals(float("nan")).keys()) == []
    assert list(people.query.col("age").in_([float("nan")]).keys()) == []
    assert list(people.query.col("age").ne(40).keys()) == ["bob", "nan"]


@pytest.mark.parametrize(
    "use",
    [
        lambda q: bool(col("age")),
        lambda q: bool(col("age") >= 18),
        lambda q: 18 <= col("age") <= 20,
        lambda q: col("age") >= 18 and col("age") < 20,
        lambda q: not col("age"),
        lambda q: 1 in col("tags"),
        lambda q: 1 in (col("tags") == 1),
        lambda q: bool(q),
        lambda q: 1 in q,
        lambda q: bool(q.col("age")),
        lambda q: q.col("age") >= 18,
        lambda q: q.col("age") == 18,
        lambda q: (col("age") >= 18) & 5,
        lambda q: col("age") >= 18 & (col("age") < 20),
        lambda q: 5 | (col("age") >= 18),
        lambda q: q.where("age >= 18"),
        lambda q: q.where(col("age")),
        lambda q: list(col("age")),
    ],
)
def test_what_looks_like_a_condition_and_is_none_is_a_type_error(people: pykesto.Table, use: Any) -> None:
    with pytest.raises(TypeError):
        use(people.query)


@pytest.mark.parametrize("count", [-1, 1.5, "1"])
def test_a_limit_is_a_whole_number(people: pykesto.Table, count: Any) -> None:
    for use in people.query.limit, people.query.offset:
        with pytest.raises(UsageError):
            use(count)


@pytest.mark.parametrize("operand", [[1], {1}, {"a": 1}])
def test_containers_have_no_order(people: pykesto.Table, operand: Any) -> None:
    with pytest.raises(UsageError):
        people.query.col("tags").lt(operand)


def test_explain_names_the_index_and_what_is_checked(people: pykesto.Table) -> None:
    text = people.query.col("age").ge(18).col("name").startswith("A").order_by("-age").explain()
    assert "index on 'age'" in text and "age >= 18" in text and "name starts with 'A'" in text and "-age" in text
    assert "scan" in people.query.col("name").equals("Ann").explain()


def test_a_function_as_a_condition_matches_nothing_where_it_fails(people: pykesto.Table) -> None:
    assert list(people.query.where(lambda row: row["age"] > 10).keys()) == ["ann", "eve"]


def test_a_scan_of_many_rows_for_few_is_warned_of_once(
    people: pykesto.Table, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "SCAN_WARNING", 100)
    monkeypatch.setattr(execution, "_warned", set())
    for n in range(200):
        people[n] = {"number": n}
    people._session.commit()
    with caplog.at_level(logging.WARNING, "pykesto"):
        assert people.query.col("age").equals(40).count() == 2
        assert people.query.col("number").ge(20).count() == 180
        assert not caplog.records
        for _ in range(2):
            assert people.query.col("number").equals(5).keys() == [5]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "an index on number would help" in caplog.text


def test_two_indexes_meet_in_keys_of_every_length(database: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    rows = {
        chance.randbytes(size): {"a": chance.randrange(6), "b": chance.randrange(6)} for size in [*range(1, 24)] * 40
    }
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            for column in "a", "b":
                s.table("t").create_index(column)
            for key, row in rows.items():
                s.table("t")[key] = row
        db.checkpoint()
        newer = dict(chance.sample(sorted(rows.items()), 90))
        with db.transaction() as s:
            for key in newer:
                s.table("t")[key] = rows[key] = {"a": 0, "b": chance.randrange(6)}
        with db.session(read_only=True) as s:
            for a in range(6):
                for b in range(6):
                    found = s.table("t").query.where(col("a") == a, col("b") == b)
                    keys = sorted(key for key, row in rows.items() if (row["a"], row["b"]) == (a, b))
                    assert list(found.keys()) == keys, seed
                    assert list(found.order_by("-k_key").keys()) == keys[::-1], seed
                    assert found.count() == len(keys), seed
                    assert found.dicts() == [rows[key] for key in keys], seed
            wide = s.table("t").query.where(col("a") >= 0, col("b") == 2, col("a") <= 3)
            assert list(wide.keys()) == sorted(k for k, row in rows.items() if row["a"] <= 3 and row["b"] == 2), seed


@pytest.mark.parametrize("pairs", [1, 4, 7])
def test_two_indexes_meet_in_keys_that_the_library_takes_for_alike(database: Path, pairs: int) -> None:
    """It has the entries of a term in the order of a hash, which is the same for all of these keys."""
    alike = ["".join(parts) for parts in itertools.product(("Am", "BH"), repeat=pairs)]
    chance = random.Random(pairs)
    rows = {key: {"team": chance.randrange(2), "kind": chance.choice("xy"), "n": chance.randrange(9)} for key in alike}
    rows |= {f"{i}": {"team": i % 2, "kind": "xyz"[i % 3], "n": i % 9} for i in range(3000)}

    def of(team: int, kind: str, n: int) -> dict[str, set[str]]:
        return {
            "terms": {k for k, row in rows.items() if (row["team"], row["kind"]) == (team, kind)},
            "ranges": {k for k, row in rows.items() if row["team"] == team and n <= int(str(row["n"])) <= n + 2},
        }

    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            for name in ("team", "kind", "n"):
                s.table("people").create_index(name)
            for key in chance.sample(list(rows), len(rows)):
                s.table("people")[key] = rows[key]
        db.checkpoint()
        for _ in range(2):
            with db.session() as s:
                people = s.table("people")
                for team, kind, n in itertools.product((0, 1), "xyz", (0, 3, 7)):
                    expected = of(team, kind, n)
                    both = people.query.where(col("team") == team, col("kind") == kind)
                    assert set(both.keys()) == expected["terms"]
                    assert both.count() == len(expected["terms"])
                    within = people.query.where(col("team") == team).col("n").between(n, n + 2)
                    assert set(within.keys()) == expected["ranges"]
            with db.transaction() as s:  # and with versions above the base
                for key in chance.sample(sorted(rows), len(rows) // 3):
                    rows[key] = {"team": chance.randrange(2), "kind": chance.choice("xyz"), "n": chance.randrange(9)}
                    s.table("people")[key] = rows[key]


def test_an_index_of_several_columns_is_still_taken_where_it_serves_better(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("t").create_index("a")
            s.table("t").create_index("b")
            for number in range(400):
                s.table("t")[number] = {"a": number % 20, "b": number // 20}
        db.checkpoint()
        with db.session() as s:
            both = s.table("t").query.where(col("a") == 3, col("b") == 5)
            assert "(index on 'a': a == 3, about 20) and (index on 'b': b == 5, about 20)" in both.explain()
            assert list(both.keys()) == [103]
            s.table("t").create_index("a", "b")
            s.commit()
            db.checkpoint()
            s.rollback()
            assert "index on 'a, b'" in both.explain() and list(both.keys()) == [103]


def test_a_session_that_writes_nothing_conflicts_with_nobody(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("t")[1] = {"a": 1}
        with db.session(read_only=True) as s:
            found = s.table("t").query.col("a").ge(1)
            assert found.count() == 1
            with db.transaction() as other:
                other.table("t")[2] = {"a": 2}
            assert found.count() == 1
            s.commit()
            assert found.count() == 2


def test_what_a_loop_finds_is_fixed_when_it_begins(people: pykesto.Table) -> None:
    found = iter(people.query.col("age").ge(7))
    people["kim"] = {"age": 50}
    assert next(found).k_key == "ann"
    people["lea"] = {"age": 50}
    del people["bob"]
    assert [row.k_key for row in found] == ["eve", "kim"]
    assert next(found, None) is None
    found = iter(people.query.col("age").ge(7))
    assert next(found).k_key == "ann"
    people._session.rollback()
    with pytest.raises(UsageError, match="after its snapshot ended"):
        next(found)
