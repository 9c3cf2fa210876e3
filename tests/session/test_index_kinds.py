"""Indexes of every kind: the answers are those of a scan, wherever the rows are, and whoever made the index."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pykesto
from pykesto import UniqueViolation, UsageError, col
from pykesto.query.expressions import InRanges
from tests.model import containers, numbers, scalars, texts

KINDS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("a",), {}),
    (("n.x",), {}),
    (("a", "b"), {}),
    (("b", "a", "n.x"), {}),
    (("tags",), {"kind": "each"}),
    (("text",), {"kind": "text"}),
    (("b",), {"where": "a"}),
]

few = st.one_of(st.none(), st.integers(0, 2), st.sampled_from([1.0, True, 0.5, "x", "xy", b"x", float("nan")]))
words = st.lists(st.sampled_from(["Ann", "ann", "annex", "Bob", "STRASSE", "straße", "é", "e\u0301"]), max_size=4)
rows = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(few, containers),
        "b": st.one_of(few, scalars),
        "n": st.one_of(few, st.fixed_dictionaries({}, optional={"x": st.one_of(few, containers), "y": numbers})),
        "tags": st.one_of(st.lists(st.one_of(few, containers), max_size=4), st.sets(st.integers(0, 3)), containers),
        "text": st.one_of(words.map(" ".join), words, few),
    },
)
tables = st.dictionaries(st.one_of(st.integers(0, 12), texts), rows, max_size=8)


def questions(draw: Any) -> Any:
    """One condition that some index may serve."""
    value = draw(st.one_of(few, scalars))
    name = draw(st.sampled_from(["a", "b", "n.x", "n", "tags", "k_key"]))
    kind = draw(st.integers(0, 9))
    column = col(name)
    if kind == 0:
        return column.equals(value)
    if kind == 1:
        return column.ne(value)
    if kind == 2:
        return draw(st.sampled_from([column.lt, column.le, column.gt, column.ge]))(value)
    if kind == 3:
        return column.in_(draw(st.lists(few, max_size=3)))
    if kind == 4:
        return column.exists()
    if kind == 5:
        return col("tags").contains(value)
    if kind == 6:
        return col("text").has_words(
            draw(st.sampled_from(["ann", "Ann bob", "an*", "strasse", "e\u0301", "ann an* b*"]))
        )
    if kind == 7:
        return column.startswith(draw(st.sampled_from(["", "x", "xy"])))
    return column.between(draw(few), draw(few))


@st.composite
def conditions(draw: Any) -> Any:
    made = questions(draw)
    for _ in range(draw(st.integers(0, 3))):
        other = questions(draw)
        made = draw(st.sampled_from([made & other, made | other, made & ~other, ~made & other, made & (other | made)]))
    return made


def fill(db: pykesto.Database, layers: list[dict[Any, Any]], indexed_first: bool) -> None:
    """The first layer in a base, the second above it; indexes made before, or after."""

    def index(s: pykesto.Session) -> None:
        for columns, options in KINDS:
            s.table("indexed").create_index(*columns, **options)

    with db.transaction() as s:
        if indexed_first:
            index(s)
        for name in ("plain", "indexed"):
            for key, row in layers[0].items():
                s.table(name)[key] = row
    db.checkpoint()
    if not indexed_first:
        with db.transaction() as s:
            index(s)
        db.checkpoint()
    with db.transaction() as s:
        for name in ("plain", "indexed"):
            for key, row in layers[1].items():
                if row or key not in s.table(name):
                    s.table(name)[key] = row
                else:
                    del s.table(name)[key]


orders = st.lists(
    st.sampled_from(["a", "-a", "b", "-b", "n.x", "-n.x", "text", "k_key", "-k_key"]), max_size=2, unique=True
)


@settings(max_examples=80)
@given(tables, tables, tables, st.booleans(), st.lists(st.tuples(conditions(), orders, st.integers(0, 4)), max_size=8))
def test_answers_never_depend_on_indexes(
    base: dict[Any, Any], above: dict[Any, Any], pending: dict[Any, Any], indexed_first: bool, asked: list[Any]
) -> None:
    with tempfile.TemporaryDirectory(prefix="pykesto.") as folder:
        with pykesto.open(Path(folder) / "app.kesto", durability="process") as db:
            fill(db, [base, above], indexed_first)
            with db.session() as s:
                plain, indexed = s.table("plain"), s.table("indexed")
                for condition, order, limit in asked:
                    compare(
                        plain.query.where(condition).order_by(*order),
                        indexed.query.where(condition).order_by(*order),
                        limit,
                    )
                for table in plain, indexed:
                    for key, row in pending.items():
                        table[key] = row
                for condition, order, limit in asked:
                    compare(
                        plain.query.where(condition).order_by(*order),
                        indexed.query.where(condition).order_by(*order),
                        limit,
                    )
            db.checkpoint()
            assert not db.check().problems


def compare(plain: pykesto.query.Query[Any], indexed: pykesto.query.Query[Any], limit: int) -> None:
    expected = plain.keys()
    assert indexed.keys() == expected, indexed.explain()
    assert indexed.count() == plain.count() == len(expected), indexed.explain()
    assert indexed.exists() == bool(expected)
    assert indexed.limit(limit).offset(1).keys() == expected[1 : 1 + limit], indexed.limit(limit).offset(1).explain()
    if expected:
        middle = list(indexed)[len(expected) // 2]
        assert indexed.after(middle).keys() == expected[len(expected) // 2 + 1 :], indexed.after(middle).explain()


def person(s: pykesto.Session, key: str, **columns: Any) -> None:
    s.table("people")[key] = columns


@pytest.fixture(params=["in the base", "above the base"])
def db(request: pytest.FixtureRequest, database: Path) -> Any:
    with pykesto.open(database, durability="process") as opened:
        opened.where = request.param  # type: ignore[attr-defined]
        yield opened


def settle(db: Any) -> None:
    if db.where == "in the base":
        db.checkpoint()


def test_several_columns_are_unique_together(db: Any) -> None:
    with db.transaction() as s:
        s.table("people").create_index("city", "street", unique=True)
        person(s, "ann", city="Bonn", street="A")
        person(s, "bob", city="Bonn", street="B")
        person(s, "eve", city="Bonn")
        person(s, "zoe", city="Bonn")
        person(s, "kim", city="Bonn", street=None)
        person(s, "tom", city="Bonn", street=None)
    settle(db)
    with db.session() as s:
        person(s, "joe", city="Bonn", street="B")
        with pytest.raises(UniqueViolation) as caught:
            s.commit()
    assert (caught.value.column, caught.value.value, caught.value.key) == (("city", "street"), ("Bonn", "B"), "bob")


def test_a_path_is_unique(db: Any) -> None:
    with db.transaction() as s:
        s.table("people").create_index("mail.address", unique=True)
        person(s, "ann", mail={"address": "a@x"})
        person(s, "bob", mail={"address": ["no", "scalar"]})
    settle(db)
    for address, other in (("a@x", "ann"), (["no", "scalar"], "bob")):
        with db.session() as s:
            person(s, "eve", mail={"address": address})
            with pytest.raises(UniqueViolation) as caught:
                s.commit()
            assert caught.value.key == other
            s.table("people")["eve"]["mail"] = {"address": ["another"]}
            s.commit()
            del s.table("people")["eve"]
            s.commit()


def test_each_element_is_unique(db: Any) -> None:
    with db.transaction() as s:
        s.table("people").create_index("mails", kind="each", unique=True)
        person(s, "ann", mails=["a@x", "a@y", "a@x"])
        person(s, "bob", mails={"b@x"})
    settle(db)
    with db.session() as s:
        person(s, "eve", mails=("e@x", "a@y"))
        with pytest.raises(UniqueViolation) as caught:
            s.commit()
    assert (caught.value.column, caught.value.value, caught.value.key) == ("mails", "a@y", "ann")


def test_a_partial_index_is_unique_among_its_rows(db: Any) -> None:
    with db.transaction() as s:
        s.table("people").create_index("name", unique=True, where="active")
        person(s, "ann", name="Ann", active=True)
        person(s, "old", name="Ann")
        person(s, "older", name="Ann")
    settle(db)
    with db.session() as s:
        s.table("people")["old"]["active"] = False
        with pytest.raises(UniqueViolation):
            s.commit()


def test_indexes_can_be_dropped_by_their_columns_and_kind(db: Any) -> None:
    with db.transaction() as s:
        people = s.table("people")
        people.create_index("tags")
        people.create_index("tags", kind="each")
        people.create_index("a", "b")
        people.create_index("a", "b")
    settle(db)
    with db.transaction() as s:
        people = s.table("people")
        assert [index.name for index in people.indexes()] == ["tags", "tags (each)", "a, b"]
        with pytest.raises(UsageError, match="say which"):
            people.drop_index("tags")
        with pytest.raises(KeyError):
            people.drop_index("b", "a")
        people.drop_index("tags", kind="each")
        people.drop_index("a", "b")
        assert [index.name for index in people.indexes()] == ["tags"]
    settle(db)
    assert not db.check().problems


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ((), {}),
        (("k_key",), {}),
        (("a",), {"where": "k_key"}),
        (("a", "a"), {}),
        (("",), {}),
        (("a", "b"), {"kind": "each"}),
        (("a",), {"kind": "other"}),
        (("a",), {"kind": "text", "unique": True}),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(db: Any, columns: Any, options: Any) -> None:
    with db.session() as s, pytest.raises(UsageError):
        s.table("people").create_index(*columns, **options)


def test_explain_names_what_serves(db: Any) -> None:
    with db.transaction() as s:
        people = s.table("people")
        for columns, options in KINDS:
            people.create_index(*columns, **options)
        for n in range(200):
            people[n] = {"a": n % 10, "b": n % 20, "n": {"x": n}, "tags": [n % 50, "t"], "text": f"word{n} some"}
    db.checkpoint()
    with db.session(read_only=True) as s:
        query = s.table("people").query
        assert "'n.x'" in query.col("n.x").equals(5).explain()
        assert "'b, a, n.x'" in query.col("b").equals(5).col("a").equals(5).col("n.x").lt(50).explain()
        assert "'tags (each)'" in query.col("tags").contains(5).explain()
        assert "'text (text)'" in query.col("text").has_words("word5").explain()
        assert "read along the index on 'a, b'" in query.col("a").equals(5).order_by("-b").limit(3).explain()
        assert "read along the index on 'n.x'" in query.order_by("-n.x").limit(3).explain()
        assert "together" in query.col("n.x").lt(20).col("tags").contains(7).explain()
        assert query.order_by("-n.x").limit(3).keys() == [199, 198, 197]


def test_an_answer_stays_exact_while_others_commit_checkpoint_and_drop_indexes(database: Path) -> None:
    """What the base holds too goes from the overlay bit by bit, under the feet of whoever asks."""
    rounds, keys = 8, range(200)
    wrong: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with db.session(read_only=True) as s:
                rows = s.table("rows")
                plain = {key: rows[key].to_dict() for key in rows}
                for n in range(4):
                    for column in "ab":
                        query = rows.query.col(column).equals(n)
                        expected = [key for key, row in plain.items() if row.get(column) == n]
                        found, count = query.keys(), query.count()
                        ordered = [row.k_key for row in query.order_by("a")]
                        if not (found == sorted(ordered) == expected and count == len(expected)):
                            wrong.append(f"{query.explain()}: {found}, {ordered}, {count}, but {expected}")
                            over.set()

    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("rows").create_index("a")
            s.table("rows").create_index("b", "a")
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for n in range(rounds):
                for part in range(5):
                    with db.transaction() as s:
                        for key in keys[part::5]:
                            s.table("rows")[key] = {"a": (key + n) % 5, "b": key % 4, "n": n}
                with db.transaction() as s:
                    for key in keys[n::10]:
                        del s.table("rows")[key]
                    if n % 3 == 1:
                        s.table("rows").drop_index("a")
                    elif n % 3 == 2:
                        s.table("rows").create_index("a")
                db.checkpoint()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not wrong, wrong[0]
        assert not db.check().problems


@pytest.mark.parametrize("table", ["ages", "others"])
def test_a_range_from_the_very_first_value_has_no_rows_without_one(db: Any, table: str) -> None:
    with db.transaction() as s:
        s.table("ages").create_index("age")
        for key, row in {1: {"age": 40}, 2: {}, 3: {"age": None}}.items():
            s.table(table)[key] = row
    settle(db)
    every = InRanges("age", ((b"", b"\xff"),), "any age")
    with db.session() as s:
        query = s.table(table).query.where(every)
        assert (query.keys(), query.count(), query.order_by("-age").keys()) == ([1, 3], 2, [1, 3])


def test_a_row_is_found_once_by_two_of_its_elements(db: Any) -> None:
    with db.transaction() as s:
        s.table("people").create_index("tags", kind="each")
        for n in range(30):
            person(s, f"other {n}", tags=[f"other {n}"])
        person(s, "ann", tags=["a", "b"])
    settle(db)
    with db.session() as s:
        found = s.table("people").query.where(col("tags").contains("a") | col("tags").contains("b"))
        assert "index" in found.explain()
        assert list(found.keys()) == ["ann"]


def test_what_fills_many_pages_of_an_index_is_found_whole(db: Any) -> None:
    with db.transaction() as s:
        things = s.table("things")
        things.create_index("text", kind="text")
        things.create_index("tags", kind="each")
        things.create_index("one", "two")
        for n in range(2000):
            things[n] = {"text": f"a boat {n % 700}", "tags": [n % 3, n], "one": n % 2, "two": n % 5}
    settle(db)
    expected = {
        col("text").has_words("boat"): range(2000),
        col("text").has_words("699"): [699, 1399],
        col("text").has_words("69*"): [n for n in range(2000) if str(n % 700).startswith("69")],
        col("tags").contains(1): [n for n in range(2000) if n % 3 == 1 or n == 1],
        col("one").equals(1): range(1, 2000, 2),
        (col("one") == 1) & (col("two") == 4): [n for n in range(2000) if n % 2 == 1 and n % 5 == 4],
        (col("one") == 0) & (col("two") < 3): [n for n in range(2000) if n % 2 == 0 and n % 5 < 3],
    }
    with db.session(read_only=True) as s:
        for condition, keys in expected.items():
            query = s.table("things").query.where(condition)
            assert "index" in query.explain()
            assert (query.keys(), query.count()) == (list(keys), len(keys)), str(condition)


def test_a_count_knows_which_entries_newer_rows_hide(database: Path) -> None:
    question = col("n").between(100, 299)
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("things").create_index("n")
            s.table("things").update({n: {"n": n} for n in range(500)})
        db.checkpoint()
        with db.session() as old:
            assert old.table("things").query.where(question).count() == 200
            with db.transaction() as s:
                things = s.table("things")
                things[150] = {"n": 1000}  # out of the range
                things[400] = {"n": 200}  # into it
                things[250] = {"n": 250, "more": 1}  # within it
                things[600] = {"n": 299.5, "more": 1}
                things[601] = {"n": 298.5}
                del things[120]
            assert count_of(db, question) == 200
            with db.transaction() as s:
                s.table("things")[150] = {"n": 101}  # and back
                del s.table("things")[200]
                del s.table("things")[601]
            assert count_of(db, question) == 199
            assert old.table("things").query.where(question).count() == 200
            db.checkpoint()
            assert old.table("things").query.where(question).count() == 200
            with db.transaction() as s:
                s.table("things")[299] = {"n": 0}
            assert count_of(db, question) == 198
        assert count_of(db, question) == 198


def count_of(db: pykesto.Database, condition: Any) -> int:
    """What a query counts in a session of its own: what it finds, and what a look at all rows finds."""
    with db.session(read_only=True) as s:
        query = s.table("things").query.where(condition)
        found = sum(100 <= row["n"] <= 299 for row in s.table("things").values())
        assert query.count() == len(query.keys()) == found
        return found


def test_an_index_serves_what_no_base_has_yet(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people").create_index("age")
        with db.transaction() as s:
            for n in range(30):
                person(s, f"{n:02}", age=n)
        with db.session() as s:
            found = s.table("people").query.col("age").equals(7)
            assert "index" in found.explain()
            assert list(found.keys()) == ["07"]
