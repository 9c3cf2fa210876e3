"""Whatever is done to a table, it holds what a dict of dicts would, in this session and after opening it again."""

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import pykesto
from tests.model import Model, conditions, containers, keys

COLUMNS = st.dictionaries(st.sampled_from(["a", "b", "n", "größe"]), containers, max_size=3)


class Rows(RuleBasedStateMachine):
    """One session at a time, on one table, with rows held over its changes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="pykesto."))
        self.model = Model()
        self.open()

    def open(self) -> None:
        self.db = pykesto.open(self.folder / "app.kesto", durability="process")
        self.begin()

    def begin(self) -> None:
        self.session = self.db.session()
        self.table = self.session.table("rows")
        self.held: dict[Any, pykesto.Row] = {}

    def teardown(self) -> None:
        try:
            self.session.close()
            assert self.db.check().problems == ()
            self.db.close()
        finally:
            shutil.rmtree(self.folder)

    def one_of_the_keys(self, data: st.DataObject) -> Any:
        return data.draw(st.sampled_from(list(self.model.rows)))

    @rule(key=keys, columns=COLUMNS)
    def put(self, key: Any, columns: dict[str, Any]) -> None:
        self.table[key] = columns
        self.model.rows.pop(key, None)
        self.model.rows[key] = copy.deepcopy(columns)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), column=st.sampled_from(["a", "n"]), value=containers)
    def set_column(self, data: st.DataObject, column: str, value: Any) -> None:
        key = self.one_of_the_keys(data)
        self.table[key][column] = value
        self.model.rows[key][column] = copy.deepcopy(value)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def delete_column(self, data: st.DataObject) -> None:
        key = self.one_of_the_keys(data)
        if self.model.rows[key]:
            column = data.draw(st.sampled_from(sorted(self.model.rows[key])))
            del self.table[key][column]
            del self.model.rows[key][column]

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), value=st.integers(0, 5))
    def change_a_container_in_place(self, data: st.DataObject, value: int) -> None:
        key = self.one_of_the_keys(data)
        for column, mine in self.model.rows[key].items():
            theirs = self.table[key][column]
            self.change(mine, value)
            self.change(theirs, value)

    def change(self, container: Any, value: int) -> None:
        """At every depth."""
        if isinstance(container, list):
            for item in list(container):
                self.change(item, value)
            container.append([value])
        elif isinstance(container, dict):
            for item in list(container.values()):
                self.change(item, value)
            container["changed"] = {value}
        elif isinstance(container, set):
            container.add(value)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = self.one_of_the_keys(data)
        del self.table[key]
        del self.model.rows[key]
        self.held.pop(key, None)  # it stays the deleted row, whatever comes to its key later

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        key = self.one_of_the_keys(data)
        self.held[key] = self.table[key]
        assert self.table[key] is self.held[key]

    @rule()
    def commit(self) -> None:
        self.session.commit()
        self.model.commit()

    @rule()
    def commit_and_begin_another(self) -> None:
        self.session.commit()
        self.session.close()
        self.model.commit()
        self.begin()

    @rule()
    def rollback(self) -> None:
        self.session.rollback()
        self.model.rollback()
        self.held = {key: row for key, row in self.held.items() if key in self.model.rows}

    @rule()
    def reopen(self) -> None:
        self.session.close()
        self.db.close()
        self.model.rollback()
        self.open()

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule(column=st.sampled_from(["a", "n"]))
    def index(self, column: str) -> None:
        if self.session.table("rows").indexes():
            self.table.drop_index(self.table.indexes()[0].column)
        else:
            self.table.create_index(column)

    @rule(meaning=conditions("a", "n"))
    def query(self, meaning: Any) -> None:
        expected = {key for key, row in self.model.rows.items() if meaning.holds(row)}
        assert set(self.table.query.where(meaning.condition).keys()) == expected

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        assert {key: row.to_dict() for key, row in self.table.items()} == self.model.rows
        assert len(self.table) == len(self.model.rows)
        for key, row in self.held.items():
            if key in self.model.rows:
                assert row == self.model.rows[key]
            assert (key in self.table) == (key in self.model.rows)


TestRows = Rows.TestCase
TestRows.settings = settings(max_examples=60, stateful_step_count=25)
