"""Two sessions of this process, and commits of another one: what each sees, and whether it conflicts, is the model's.

After each step every table of a session, read by iteration and by queries that indexes may serve, is what the model
has. As all is read that way, it is known for certain which commits must conflict. A quiet session is not looked into:
what it changes stays as it was left until the commit. It has snapshot isolation, so its conflicts are known as well.
"""

import copy
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import pykesto
from pykesto import ConcurrencyConflict, col
from pykesto.codec import encode
from pykesto.query._run import core_of
from tests.model import Meaning, Shared, View, between, conditions, containers, family, holds_item, keys, ordered
from tests.processes import Worker, close_database, delete, open_database, put, toggle_index, toggle_index_there

TABLES = ["one", "two"]
COLUMNS = ["a", "b"]
LARGE = {"c": "of a size that is left in the journal" * 20}
rows = st.builds(
    lambda row, large: {**row, **LARGE} if large else row,
    st.dictionaries(st.sampled_from(COLUMNS), containers, max_size=2),
    st.booleans(),
)
which = st.sampled_from([0, 1])
tables = st.sampled_from(TABLES)
INDEXES: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("a",), {}),
    (("b",), {}),
    (("a.a",), {}),
    (("a", "b"), {}),
    (("b", "a.a", "a"), {}),
    (("a",), {"kind": "each"}),
    (("b",), {"kind": "text"}),
    (("b",), {"where": "a"}),
]
FIXED = [  # asked after each step
    ordered("a", "ge", 0),
    ordered("b", "lt", "b"),
    between("a", 0, 2),
    Meaning(~(col("a") == 1) | col("b").exists(), lambda row: "b" in row or row.get("a") != 1, "not a == 1 or b"),
    Meaning(
        (col("a") == 1) & (col("b") >= 0),
        lambda row: row.get("a") == 1 and family(row.get("b")) == "number" and row["b"] >= 0,
        "a == 1 and b >= 0",
    ),
    Meaning(
        col("a").exists() & col("b").is_none(), lambda row: "a" in row and row.get("b", 0) is None, "a, and b is None"
    ),
    Meaning(col("a").contains(1), lambda row: holds_item(row.get("a"), 1), "a contains 1"),
    Meaning(col("a.a").exists(), lambda row: isinstance(row.get("a"), dict) and "a" in row["a"], "a.a exists"),
    Meaning(
        col("b").has_words("a*"),
        lambda row: any(word.startswith("a") for text in texts_in(row.get("b")) for word in re.findall(r"\w+", text)),
        "b has the words a*",
    ),
]
ORDERS: list[tuple[str, ...]] = [("a",), ("-a",), ("b", "-a"), ("-b", "a")]


def texts_in(value: Any) -> list[str]:
    """What `has_words` looks into, as it is compared."""
    items = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple, set, frozenset)) else []
    return [unicodedata.normalize("NFKC", item).casefold() for item in items if isinstance(item, str)]


def place(row: dict[str, Any], column: str) -> bytes:
    """What a row is sorted by."""
    return core_of(encode(row[column])) if column in row else b""


class Undo(Exception):
    """Leaves a savepoint."""


class Sessions(RuleBasedStateMachine):
    """Steps that one session takes, or another process, or the database as a whole."""

    worker: ClassVar[Worker]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="pykesto."))
        self.shared = Shared(*TABLES)
        self.db = self.opened()
        self.worker.call(open_database, self.folder / "app.kesto")
        self.sessions = [self.db.session(), self.db.session(isolation="snapshot")]
        self.views = [View(self.shared, serializable=True), View(self.shared, serializable=False)]
        self.quiet = [False, False]

    def opened(self) -> pykesto.Database:
        return pykesto.open(self.folder / "app.kesto", durability="process")

    def teardown(self) -> None:
        try:
            self.end_sessions()
            self.worker.call(close_database)
            assert self.db.check().problems == ()
            self.db.close()
        finally:
            shutil.rmtree(self.folder)

    def end_sessions(self) -> None:
        for session in self.sessions:
            session.rollback()
            session.close()

    @initialize(columns=st.lists(rows, min_size=2, max_size=2))
    def begin_with_rows(self, columns: list[Any]) -> None:
        for table, row in zip(TABLES, columns, strict=True):
            self.another_process_puts(table, 0, row)
        self.end_sessions()
        self.begin_anew(0, True, False)
        self.begin_anew(1, False, True)

    # What a session does

    def change(self, data: st.DataObject, which: int) -> None:
        """One change, drawn."""
        session, view, table = self.sessions[which], self.views[which], data.draw(tables)
        mine = view.rows[table]
        kinds = ["put", "add"] + (["set", "take out", "in place", "delete", "refresh"] if mine else [])
        kind = data.draw(st.sampled_from(kinds))
        if kind == "put":
            key, columns = data.draw(keys), data.draw(rows)
            session.table(table)[key] = columns
            view.put(table, key, columns)
            return
        if kind == "add":
            columns = data.draw(rows)
            view.put(table, session.table(table).add(columns), columns)
            return
        key = data.draw(st.sampled_from(list(mine)))
        row, columns = session.table(table)[key], copy.deepcopy(mine[key])
        if kind == "set":
            column, value = data.draw(st.sampled_from(COLUMNS)), data.draw(containers)
            row[column] = columns[column] = value
        elif kind == "take out":
            for column in [c for c in COLUMNS if c in columns]:
                del row[column], columns[column]
        elif kind == "in place":
            for column, value in columns.items():
                for container in row[column], value:
                    if isinstance(container, list):
                        container.append(which)
        elif kind == "delete":
            del session.table(table)[key]
            view.delete(table, key)
            return
        elif key in view.snapshot[table]:
            session.refresh(row)
            view.refresh(table, key)
            return
        if columns != mine[key] or kind == "set":
            view.put(table, key, columns)

    @rule(which=which, data=st.data())
    def session_changes(self, which: int, data: st.DataObject) -> None:
        self.change(data, which)

    @rule(which=which, data=st.data(), depth=st.integers(1, 3), fails=st.booleans())
    def session_has_savepoints(self, which: int, data: st.DataObject, depth: int, fails: bool) -> None:
        view = self.views[which]
        saved = view.save()
        try:
            with self.sessions[which].savepoint():
                self.change(data, which)
                if depth > 1:
                    self.session_has_savepoints(which, data, depth - 1, data.draw(st.booleans()))
                self.change(data, which)
                if not self.quiet[which]:
                    self.session_is_as_the_model_says(which)
                if fails:
                    raise Undo
        except Undo:
            view.restore(saved)

    @rule(which=which, force=st.booleans())
    def session_commits(self, which: int, force: bool) -> None:
        session, view = self.sessions[which], self.views[which]
        if view.conflicts() and not force:
            try:
                session.commit()
            except ConcurrencyConflict:
                return  # and it keeps its snapshot and changes
            raise AssertionError("a commit that must conflict did not")
        session.commit(force=force)
        self.shared.commit(view.rows, view.written)
        self.begin_snapshot(which)

    @rule(which=which)
    def session_rolls_back(self, which: int) -> None:
        self.sessions[which].rollback()
        self.begin_snapshot(which)

    def begin_snapshot(self, which: int) -> None:
        assert self.sessions[which].version == self.db.version
        self.views[which].begin()

    @rule(which=which, serializable=st.booleans(), quiet=st.booleans())
    def begin_anew(self, which: int, serializable: bool, quiet: bool) -> None:
        if not self.sessions[which]._closed:
            self.sessions[which].rollback()
            self.sessions[which].close()
        self.sessions[which] = self.db.session(isolation="serializable" if serializable else "snapshot")
        self.views[which] = View(self.shared, serializable=serializable)
        self.quiet[which] = quiet and not serializable
        self.begin_snapshot(which)

    @rule(which=which, table=tables, meaning=conditions(*COLUMNS))
    def session_asks(self, which: int, table: str, meaning: Meaning) -> None:
        found = self.sessions[which].table(table).query.where(meaning.condition).keys()
        rows = self.views[which].rows[table]
        assert set(found) == {key for key, row in rows.items() if meaning.holds(row)}

    # What others do

    @rule(table=tables, key=keys, columns=rows)
    def another_process_puts(self, table: str, key: Any, columns: dict[str, Any]) -> None:
        self.worker.call(put, key, columns, table)
        self.shared.commit({table: {key: columns}}, {(table, key)})

    @rule(table=tables, data=st.data())
    def another_process_deletes(self, table: str, data: st.DataObject) -> None:
        if self.shared.tables[table]:
            key = data.draw(st.sampled_from(list(self.shared.tables[table])))
            self.worker.call(delete, key, table)
            self.shared.commit({table: {}}, {(table, key)})

    @rule(table=tables, index=st.sampled_from(INDEXES), elsewhere=st.booleans())
    def an_index_comes_or_goes(
        self, table: str, index: tuple[tuple[str, ...], dict[str, Any]], elsewhere: bool
    ) -> None:
        if elsewhere:
            self.worker.call(toggle_index_there, table, *index)
        else:
            toggle_index(self.db, table, *index)

    @rule(table=tables)
    def all_indexes_come_or_go(self, table: str) -> None:
        for index in INDEXES:
            toggle_index(self.db, table, *index)
        self.db.checkpoint()

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule()
    def reopen(self) -> None:
        self.end_sessions()
        self.db.close()
        self.db = self.opened()
        for which in range(2):
            self.begin_anew(which, self.views[which].serializable, self.quiet[which])

    # What must hold

    @invariant()
    def sessions_are_as_the_model_says(self) -> None:
        for which in range(2):
            if not self.quiet[which]:
                self.session_is_as_the_model_says(which)

    def session_is_as_the_model_says(self, which: int) -> None:
        session, view = self.sessions[which], self.views[which]
        for name in TABLES:
            table, expected = session.table(name), view.rows[name]
            assert {row.k_key: row.to_dict() for row in table.query} == expected
            assert len(table) == len(expected)
            for meaning in FIXED:
                found = table.query.where(meaning.condition).keys()
                assert len(found) == len(set(found))
                assert set(found) == {key for key, row in expected.items() if meaning.holds(row)}
                assert table.query.where(meaning.condition).count() == len(found)
            self.orders_are_as_the_model_says(table, expected)
        changed = (*session.new, *session.dirty, *session.deleted)
        assert {(row._table.label, row.k_key) for row in changed} == view.written

    def orders_are_as_the_model_says(self, table: pykesto.Table, rows: dict[Any, dict[str, Any]]) -> None:
        in_key_order = table.query.keys()
        for order in ORDERS:
            expected = list(in_key_order)
            for term in reversed(order):
                column, down = term.removeprefix("-"), term.startswith("-")
                expected.sort(key=lambda key, column=column: place(rows[key], column), reverse=down)  # type: ignore[misc]
            query = table.query.order_by(*order)
            assert query.keys() == expected
            assert query.limit(2).offset(1).keys() == expected[1:3]


class TestSessions(Sessions.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=30, stateful_step_count=20)

    @classmethod
    def setUpClass(cls) -> None:
        Sessions.worker = Worker()

    @classmethod
    def tearDownClass(cls) -> None:
        Sessions.worker.end()
