"""A query's answer is that of a plain loop, with and without indexes, wherever the rows are."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import pykesto
from tests.model import Meaning, conditions, containers, keys, numbers, texts

COLUMNS = ["a", "b"]
rows = st.dictionaries(keys, st.dictionaries(st.sampled_from(COLUMNS), containers, max_size=2), max_size=6)
plain_rows = st.dictionaries(
    keys, st.dictionaries(st.sampled_from(COLUMNS), st.one_of(st.none(), numbers, texts)), max_size=8
)


def put_all(table: pykesto.Table, rows: dict[Any, dict[str, Any]]) -> None:
    for key, columns in rows.items():
        table[key] = columns


def tables(session: pykesto.Session) -> list[pykesto.Table]:
    return [session.table("plain"), session.table("indexed")]


class Layers:
    """The same rows in a table with indexes and one without: in a base, in the overlay above, and not committed."""

    def __init__(self, *layers: dict[Any, dict[str, Any]]) -> None:
        self.layers = layers
        self.rows: dict[Any, dict[str, Any]] = {}
        for layer in layers:
            for key, columns in layer.items():
                self.rows.pop(key, None)
                self.rows[key] = columns
        # One row of each kind is deleted in the layer above.
        self.gone = [next(iter(layer)) for layer in layers[:2] if layer]
        for key in self.gone:
            self.rows.pop(key, None)

    def __enter__(self) -> list[pykesto.Table]:
        self.folder = tempfile.TemporaryDirectory(prefix="pykesto.")
        self.db = pykesto.open(Path(self.folder.name) / "app.kesto", durability="process")
        with self.db.transaction() as s:
            for column in COLUMNS:
                s.table("indexed").create_index(column)
        for number, layer in enumerate(self.layers[:2]):
            with self.db.transaction() as s:
                for table in tables(s):
                    put_all(table, layer)
            if number == 0:
                self.db.checkpoint()
        self.session = self.db.session()
        found = tables(self.session)
        for table in found:
            put_all(table, self.layers[2])
            for key in self.gone:
                if key in table:
                    del table[key]
        return found

    def __exit__(self, *_: object) -> None:
        self.session.rollback()
        self.session.close()
        self.db.close()
        self.folder.cleanup()


@settings(max_examples=120)
@given(rows, rows, rows, st.lists(conditions(*COLUMNS), min_size=1, max_size=12))
def test_every_condition_gives_what_python_would_with_and_without_indexes(
    base: dict[Any, Any], overlay: dict[Any, Any], pending: dict[Any, Any], meanings: list[Meaning]
) -> None:
    layers = Layers(base, overlay, pending)
    with layers as (plain, indexed):
        for meaning in meanings:
            expected = {key for key, row in layers.rows.items() if meaning.holds(row)}
            query = plain.query.where(meaning.condition)
            assert set(query.keys()) == expected
            same = indexed.query.where(meaning.condition)
            assert list(same.keys()) == list(query.keys()), same.explain()
            assert same.count() == len(expected)
            assert same.exists() == bool(expected)


def missing_first(value: Any) -> tuple[int, Any]:
    """Missing < None < numbers < str."""
    if value is missing_first:
        return 0, 0
    return (1, 0) if value is None else (3, value) if isinstance(value, str) else (2, value)


@settings(max_examples=60)
@given(
    plain_rows,
    plain_rows,
    st.lists(st.sampled_from(["a", "-a", "b", "-b", "k_key", "-k_key"]), unique=True, max_size=3),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_order_limit_and_offset_are_those_of_a_sorted_list(
    base: dict[Any, Any], pending: dict[Any, Any], order: list[str], offset: int, limit: int | None
) -> None:
    layers = Layers(base, {}, pending)
    with layers as (plain, indexed):
        expected = list(plain)  # in key order
        assert set(expected) == set(layers.rows)
        in_key_order = {key: place for place, key in enumerate(expected)}
        for term in reversed(order):
            name = term.lstrip("-")

            def value(key: Any, name: str = name) -> Any:
                if name == "k_key":
                    return in_key_order[key]
                return missing_first(layers.rows[key].get(name, missing_first))

            expected.sort(key=value, reverse=term.startswith("-"))
        expected = expected[offset:] if limit is None else expected[offset : offset + limit]
        for table in plain, indexed:
            query = table.query.order_by(*order).offset(offset).limit(limit)
            assert list(query.keys()) == expected


def equal(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


@settings(max_examples=60)
@given(plain_rows, plain_rows)
def test_aggregates_are_those_of_a_loop(base: dict[Any, Any], pending: dict[Any, Any]) -> None:
    for part in (base, pending):
        for row in part.values():
            row["n"] = len(str(row.get("a")))
    layers = Layers(base, {}, pending)
    with layers as (plain, indexed):
        counted = [row["n"] for row in layers.rows.values()]
        groups: dict[int, int] = {}
        for n in counted:
            groups[n] = groups.get(n, 0) + 1
        for table in plain, indexed:
            query = table.query
            assert query.sum("n") == sum(counted)
            assert query.min("n") == min(counted, default=None)
            assert query.max("n") == max(counted, default=None)
            assert query.avg("n") == (sum(counted) / len(counted) if counted else None)
            assert query.distinct("n") == sorted(set(counted))
            found = query.group_by("n").agg(many=pykesto.agg.count(), most=pykesto.agg.max("n"))
            assert found == [{"n": n, "many": groups[n], "most": n} for n in sorted(groups)]


@settings(max_examples=40)
@given(rows, rows, conditions(*COLUMNS))
def test_update_and_delete_reach_exactly_what_the_query_finds(
    base: dict[Any, Any], pending: dict[Any, Any], meaning: Meaning
) -> None:
    layers = Layers(base, {}, pending)
    with layers as (plain, indexed):
        expected = {key for key, row in layers.rows.items() if meaning.holds(row)}
        for table in plain, indexed:
            assert table.query.where(meaning.condition).update(mark=1) == len(expected)
            assert set(table.query.col("mark").equals(1).keys()) == expected
            assert table.query.col("mark").equals(1).delete() == len(expected)
            assert set(table) == set(layers.rows) - expected


@settings(max_examples=40)
@given(st.dictionaries(texts, st.just({}), max_size=8), texts, texts)
def test_key_ranges_are_those_of_sorted_keys(base: dict[Any, Any], lo: str, hi: str) -> None:
    layers = Layers(base, {}, {})
    with layers as (plain, _):
        in_order = sorted(layers.rows, key=lambda key: key.encode())
        assert [row.k_key for row in plain.range(lo, hi)] == [key for key in in_order if lo <= key < hi]
        assert [row.k_key for row in plain.range(lo)] == [key for key in in_order if lo <= key]
        assert [row.k_key for row in plain.range(hi=hi, reverse=True)] == [key for key in in_order[::-1] if key < hi]
        assert [row.k_key for row in plain.range(prefix=lo)] == [key for key in in_order if key.startswith(lo)]
