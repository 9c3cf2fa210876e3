"""Queries: conditions, order, limit, with and without an index."""

import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

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


def test_lists_hold_any_text(table: tc.Table) -> None:
    cities = [b"New York", b"Boston", b"a,b", b" ", b"", b"tab\there", b"x"]
    table.update((b"%d" % i, {b"city": city, b"i": b"%d" % i}) for i, city in enumerate(cities * 3))

    def expected(wanted: list[bytes]) -> list[bytes]:
        return sorted(key for key, row in table.items() if row[b"city"] in wanted)

    lists = [[b"New York"], [b"New York", b"Boston"], [b"a", b"b"], [b" ", b"x"], [b"tab\there", b"a,b"], cities[:4]]
    for kind in (None, "lexical"):
        if kind:
            for key in list(table):
                table[key] = {**table[key], b"city": table[key][b"city"] or b"-"}
            table.create_index("city")
        for wanted in lists:
            query = table.query.col("city").one_of(wanted)
            assert sorted(query) == expected(wanted)
            assert sorted(table.query.col("city").one_of(wanted, negate=True)) == sorted(set(table) - set(query))
            assert sorted(query.col("i").num_lt(9)) == [k for k in expected(wanted) if int(k) < 9]
            ordered = [table[key][b"city"] for key in query.order_by("city", descending=True).limit(4, 1)]
            assert ordered == sorted((table[key][b"city"] for key in expected(wanted)), reverse=True)[1:5]
    assert "using an index" in table.query.col("city").one_of(["New York", "x"]).hint
    assert "using an index" in table.query.col("city").one_of(["Boston", "x"]).hint
    with pytest.raises(UsageError, match="empty"):
        table.query.col("city").one_of([])
    with pytest.raises(TypeError, match="iterable"):
        table.query.col("city").one_of("Boston")


def test_equality_finds_every_row_though_other_values_hold_nuls(table: tc.Table) -> None:
    table.create_index("v")
    chooser = random.Random(7)
    table.update((b"%d" % i, {b"v": chooser.choice([b"a", b"a\0", b"a\0\1", b"a\0zz", b"ab"])}) for i in range(300))
    for query in (table.query.col("v").equals("a"), table.query.col("v").one_of(["a", "b"])):
        assert sorted(query) == sorted(key for key, row in table.items() if row[b"v"] == b"a")


def test_words_and_expressions(people: tc.Table) -> None:
    people[b"eve"] = {b"text": "The quick, brown Füchsin".encode(), b"age": b"7"}
    col = people.query.col("text")
    for kind in (None, "token", "qgram", "lexical"):
        if kind:
            people.create_index("text", kind)  # type: ignore[arg-type]
        hits = [
            col.all_words("quick The"), col.all_words([b"brown"]), col.any_word(["red", "quick"]),
            col.matches("^The .*brown"), col.matches("QUICK", ignore_case=True), col.fts_phrase("fuchsin"),
            col.fts_phrase("QUICK, B"), col.fts_all(["the", "brown"]), col.fts_any("red FÜCHS"),
            col.fts('"brown fu" || red !! blue'), col.one_of(["x", "The quick, brown Füchsin"]),
        ]  # fmt: skip
        misses = [col.all_words("quick red"), col.any_word("uick"), col.matches("QUICK"), col.fts("the !! quick")]
        assert [list(query) for query in hits] == [[b"eve"]] * len(hits)
        assert [list(query) for query in misses] == [[]] * len(misses)
    assert people.query.col("age").num_one_of([7, 29.0, Decimal("180")]).count() == 3


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "a{2", "(a)\\1", "*a", "a" * 1001, "(" * 51 + ")" * 51, "((a{100}){100})", "x\0"]
)
def test_a_pattern_that_does_not_compile_or_could_kill_is_refused(table: tc.Table, pattern: str) -> None:
    with pytest.raises(UsageError):
        table.query.col("a").matches(pattern)


@pytest.mark.parametrize("text", ["", "a &&", "|| a", "!! a", "a && && b", '""', " ".join(f"w{i}" for i in range(33))])
def test_an_expression_that_the_library_misreads_is_refused(table: tc.Table, text: str) -> None:
    with pytest.raises(UsageError):
        table.query.col("a").fts(text)


def test_words_that_the_library_would_split_are_refused(table: tc.Table) -> None:
    col = table.query.col("a")
    for call in (col.all_words, col.any_word, col.fts_all, col.fts_any):
        for words in ("", " , ", ["a b"], ["a,b"], [""], []):
            with pytest.raises(UsageError):
                call(words)
    with pytest.raises(UsageError, match="32"):
        col.fts_all([f"w{i}" for i in range(33)])
    with pytest.raises(UsageError):
        col.fts_phrase("")
    with pytest.raises(UsageError):
        col.num_one_of([])
    with pytest.raises(UsageError):
        col.num_gt(Decimal("1e1000000000"))


def test_numbers_beyond_an_index_are_compared_row_by_row(table: tc.Table) -> None:
    table.update((b"%d" % i, {b"n": b"%d" % (i * 10**16)}) for i in range(1, 100))
    table.create_index("n", "decimal")
    for huge in (10**19, 10**25, "+" + "9" * 30):
        assert table.query.col("n").num_lt(huge).count() == 99
        assert table.query.col("n").num_gt(huge).count() == 0
    assert table.query.col("n").num_gt(-(10**20)).count() == 99
    assert table.query.col("n").num_equals("+20000000000000000").count() == 1


def test_an_index_may_be_left_alone(people: tc.Table) -> None:
    people.create_index("age")
    query = people.query.col("age").equals("41", index=False)
    assert list(query) == [b"ann"]
    assert "scanning" in query.hint


def test_columns_update_and_process(people: tc.Table) -> None:
    adults = people.query.col("age").num_ge(30)
    assert sorted(adults.columns("age", "none"), key=str) == [{b"age": b"180"}, {b"age": b"41"}]
    assert adults.update({b"adult": b"1", b"name": None}) == 2
    assert people[b"ann"] == {b"age": b"41", b"adult": b"1"}
    assert people[b"bob"] == {b"name": b"Bob", b"age": b"29"}

    def decide(key: bytes, row: dict[bytes, bytes]) -> Any:
        return {b"ann": tc.REMOVE, b"bob": {b"age": b"30"}, b"cy": None, b"dan": tc.STOP}[key]

    assert people.query.order_by("").process(decide) == 2
    assert b"ann" not in people
    assert people[b"bob"] == {b"age": b"30"}
    assert people.query.process(lambda key, row: False) == 0
    with pytest.raises(TypeError, match="mapping"):
        people.query.update([b"x"])  # type: ignore[arg-type]


def test_queries_are_put_together(people: tc.Table) -> None:
    young, named = people.query.col("age").num_lt(100), people.query.col("name").endswith("n").order_by("name")
    assert list(named & young) == [b"ann"]
    assert set(named | young) == {b"ann", b"bob", b"cy", b"dan"}
    assert list(named - young) == [key for key in named if key in {b"cy", b"dan"}]
    every = named.union(young, people.query)
    assert list(every.order_by("age", numeric=True)) == [b"bob", b"ann", b"cy", b"dan"]
    assert list(every.order_by("age", numeric=True, descending=True).limit(2, 1)) == [b"ann", b"bob"]
    assert (named.limit(1) | young.limit(0)).count() == 1
    assert every.first() is not None
    assert ((named | young) - young).count() == 2
    assert "scanning" in every.hint
    assert (young & named).update({b"x": b"1"}) == 1
    assert (young - named).delete() == 1
    assert set(people) == {b"ann", b"cy", b"dan"}
    with pytest.raises(TypeError):
        young | 5  # type: ignore[operator]
    with pytest.raises(TypeError, match="union takes queries"):
        young.union(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(young)


def test_queries_of_different_tables_do_not_mix(people: tc.Table, tmp_path: Path) -> None:
    with tc.Table(tmp_path / "other", "n") as other, pytest.raises(UsageError, match="different tables"):
        people.query.union(other.query)


def test_order_by_text_among_equal_numbers(table: tc.Table) -> None:
    table.update({b"a": {b"n": b"7.0"}, b"b": {b"n": b"7"}, b"c": {b"n": b"07"}})
    table.create_index("n", "decimal")
    query = table.query.col("n").num_equals(7).order_by("n")
    assert [row[b"n"] for row in query.rows()] == [b"07", b"7", b"7.0"]


def test_keywords_in_context(people: tc.Table) -> None:
    row = {b"text": b"to be or not to be, that is the question", b"other": b"x"}
    query = people.query.col("other").equals("x").col("text").any_word("not that")
    assert query.kwic(row, "text", width=3, mark="bracket") == [b"or [not] to", b"e, [that] is"]
    assert query.kwic(row, "text", width=3, mark="tab")[0] == b"or \tnot\t to"
    assert query.kwic(row) == [b"x"]
    assert query.kwic(row, "missing") == []
    assert people.query.kwic(row) == []
    with pytest.raises(UsageError, match="mark"):
        query.kwic(row, mark="bold")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="width"):
        query.kwic(row, width=-1)


def test_a_search_through_a_changed_table_leaves_out_what_is_gone(people: tc.Table) -> None:
    found = people.query.items()
    first = next(found)
    for key in list(people):
        if key != first[0]:
            del people[key]
    assert list(found) == []
