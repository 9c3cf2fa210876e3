"""Queries: what they give, what they refuse, and that they say how they run."""

import logging
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
