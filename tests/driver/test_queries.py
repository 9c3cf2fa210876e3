"""Queries: conditions, order, limit, with and without an index."""

import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from pykesto import tc
from pykesto.errors import UsageError


@pytest.fixture
def people(table: tc.Table) -> tc.Table:
    table.update(
        {
            b"ann": {b"name": "Änn".encode(), b"age": b"41"},
            b"bob": {b"name": b"Bob", b"age": b"29"},
            b"cy": {b"name": b"Cyan", b"age": b"180"},
            b"dan": {b"name": b"Dan"},
        }
    )
    return table


CONDITIONS: dict[str, tuple[Callable[[tc.Query], tc.Query], set[bytes]]] = {
    "equals": (lambda q: q.col("age").equals("180"), {b"cy"}),
    "not equals": (lambda q: q.col("age").equals("180", negate=True), {b"ann", b"bob", b"dan"}),
    "text is UTF-8": (lambda q: q.col("name").equals("Änn"), {b"ann"}),
    "includes": (lambda q: q.col("name").includes("an"), {b"cy", b"dan"}),
    "startswith": (lambda q: q.col("name").startswith(b"B"), {b"bob"}),
    "endswith": (lambda q: q.col("name").endswith("n"), {b"ann", b"cy", b"dan"}),
    "num_equals": (lambda q: q.col("age").num_equals(41.0), {b"ann"}),
    "num_gt": (lambda q: q.col("age").num_gt("41"), {b"cy"}),
    "num_ge": (lambda q: q.col("age").num_ge(Decimal("4.1e1")), {b"ann", b"cy"}),
    "num_lt": (lambda q: q.col("age").num_lt(41), {b"bob"}),
    "num_le": (lambda q: q.col("age").num_le(b"41"), {b"ann", b"bob"}),
    "num_between": (lambda q: q.col("age").num_between(29, 41), {b"ann", b"bob"}),
    "both": (lambda q: q.col("age").num_gt(1e1).col("name").startswith("B"), {b"bob"}),
    "key": (lambda q: q.col("").startswith("a"), {b"ann"}),
    "all": (lambda q: q, {b"ann", b"bob", b"cy", b"dan"}),
}


@pytest.mark.parametrize("index", [None, "lexical", "decimal", "token", "qgram"])
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_finds_its_rows_whatever_the_index(people: tc.Table, name: str, index: str | None) -> None:
    if index:
        people.create_index("age", index)  # type: ignore[arg-type]
        people.create_index("name", "token" if index == "token" else "lexical")
    build, expected = CONDITIONS[name]
    query = build(people.query)
    assert set(query) == expected
    assert query.count() == len(expected)
    assert dict(query.items()) == {key: people[key] for key in expected}
    assert sorted(map(sorted, query.rows())) == sorted(sorted(people[key]) for key in expected)


def test_order_and_limit(people: tc.Table) -> None:
    by_age = people.query.order_by("age", numeric=True)
    assert list(by_age) == [b"bob", b"ann", b"cy", b"dan"]
    assert list(people.query.order_by("age")) == [b"cy", b"bob", b"ann", b"dan"]
    assert list(people.query.order_by("", descending=True)) == [b"dan", b"cy", b"bob", b"ann"]
    assert list(by_age.limit(2, skip=1)) == [b"ann", b"cy"]
    assert list(by_age.limit(0)) == []
    assert by_age.first() == (b"bob", people[b"bob"])
    assert by_age.col("age").equals("no").first() is None
    with pytest.raises(UsageError):
        by_age.limit(-1)


def test_queries_are_immutable(people: tc.Table) -> None:
    everyone = people.query
    everyone.col("age").equals("41")
    everyone.limit(1)
    assert everyone.count() == 4


def test_the_hint_tells_of_the_index(people: tc.Table) -> None:
    query = people.query.col("age").equals("41")
    assert "scanning" in query.hint
    people.create_index("age")
    assert 'using an index: "age"' in people.query.col("age").equals("41").hint


def test_delete_removes_what_matches(people: tc.Table) -> None:
    people.create_index("age", "decimal")
    assert people.query.limit(0).delete() == 0
    assert people.query.col("age").num_lt(100).delete() == 2
    assert set(people) == {b"cy", b"dan"}
    assert people.query.col("age").num_lt(100).count() == 0


def test_what_the_library_would_misread_is_refused(table: tc.Table) -> None:
    column = table.query.col("age")
    for call in (
        lambda: table.query.col("a\0b"),
        lambda: column.equals("4\0"),
        lambda: table.query.order_by(b"\0"),
        lambda: column.num_gt("1e3"),
        lambda: column.num_gt(float("inf")),
        lambda: column.num_between("1 2", 3),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(TypeError, match="operand must be str or bytes, not int"):
        column.equals(5)  # type: ignore[arg-type]


def test_lexical_and_decimal_indexes_agree_with_a_scan(table: tc.Table) -> None:
    chooser = random.Random(5)
    for i in range(400):
        table[b"%d" % i] = {b"n": b"%d" % chooser.randint(-50, 50), b"m": b"%d" % chooser.randint(0, 9)}

    def answers() -> list[list[bytes]]:
        return [
            sorted(query)
            for value in range(-55, 56, 11)
            for query in (
                table.query.col("n").num_ge(value).col("m").equals("3"),
                table.query.col("n").num_lt(value),
                table.query.col("n").num_between(value, value + 9).col("m").startswith("7"),
                table.query.col("n").equals(str(value)),
            )
        ]

    scanned = answers()
    table.create_index("n", "decimal")
    table.create_index("m")
    assert answers() == scanned
    table.create_index("n", "lexical")
    assert answers() == scanned
