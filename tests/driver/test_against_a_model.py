"""A table beside a dict of rows: whatever is done to both, every kind of query finds in the one what a scan finds in
the other, with any indexes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pykesto import tc
from tests.driver.scan import CONDITIONS, Row, matching, number, places

KINDS = ["lexical", "decimal", "token", "qgram"]
COLUMNS = ["", "a", "b", "n"]  # "": the primary key

keys = st.sampled_from([b"1", b"2", b"12", b"k", b"k1", b"to be", b"x,y", b"9\xff"]) | st.integers(1, 40).map(
    b"%d".__mod__
)
words = st.sampled_from([b"to", b"be", b"or", b"not", b"be,", b"To Be", b"tobe", "ä".encode(), b"b\0e", b"to be or"])
texts = st.lists(words, max_size=4).map(b" ".join)
numbers = st.integers(-30, 30).map(b"%d".__mod__) | st.sampled_from(
    [b"0.5", b"-0.25", b"1e3", b" 7", b"7.0", b"x", b"10"]
)
rows = st.fixed_dictionaries(
    {}, optional={b"a": texts, b"b": texts | numbers, b"n": numbers, b"c": st.binary(max_size=9)}
)

plain = st.sampled_from([b"to", b"be", b"to be", b"not", b"x", b"b", b"12", "ä".encode()])
values = st.integers(-31, 31) | st.sampled_from([0.5, -0.25, 10**19, -(10**19)])
phrases = st.sampled_from(["to be", "be", "t", "OR not", "Ä", "to be or not", "x,y"])
operands: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    **dict.fromkeys(["equals", "includes", "startswith", "endswith"], st.tuples(plain)),
    "one_of": st.tuples(st.lists(plain | texts.map(lambda t: t.replace(b"\0", b"")), min_size=1, max_size=3)),
    **dict.fromkeys(
        ["all_words", "any_word"], st.tuples(st.lists(st.sampled_from([b"to", b"be", b"x", b"12"]), min_size=1))
    ),
    "matches": st.tuples(st.sampled_from([b"^to", b"be$", b"[0-9]+", b"o.*b", b"^(to|or)( |$)"])),
    **dict.fromkeys(["num_equals", "num_gt", "num_ge", "num_lt", "num_le"], st.tuples(values)),
    "num_between": st.tuples(values, values),
    "num_one_of": st.tuples(st.lists(values, min_size=1, max_size=3)),
    "fts_phrase": st.tuples(phrases),
    **dict.fromkeys(["fts_all", "fts_any"], st.tuples(st.lists(st.sampled_from(["to", "BE", "o", "not"]), min_size=1))),
    "fts": st.tuples(st.sampled_from(["to be", "to && not", "to || or", "be !! not", '"to be" || x', "TO"])),
}
conditions = st.sampled_from(sorted(operands)).flatmap(
    lambda name: st.tuples(st.sampled_from(COLUMNS), st.just(name), operands[name], st.booleans(), st.booleans())
)


class Twins(RuleBasedStateMachine):
    """The table and its model."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="kesto-model-"))
        self.model: dict[bytes, Row] = {}
        self.kinds: dict[str, str] = {}
        self.saved: dict[bytes, Row] | None = None

    @initialize(
        kinds=st.dictionaries(st.sampled_from(COLUMNS), st.sampled_from(KINDS)),
        options=st.sampled_from(
            [
                {},
                {"deflate": True},
                {"cache_leaves": 8, "cache_rows": 10},
                {"codec": (bytes.hex, bytes.fromhex)},
                {"defrag_steps": 1, "inverted_bytes": 1},
                {"apow": 0, "fpow": 2, "large": False},
            ]
        ),
    )
    def open(self, kinds: dict[str, str], options: dict[str, Any]) -> None:
        if "codec" in options:
            options = {"codec": (lambda data: data[::-1], lambda data: data[::-1])}
        self.options = options
        self.table = tc.Table(self.directory / "t", "n", bnum=13, **options)
        for name, kind in kinds.items():
            self.table.create_index(name, kind)  # type: ignore[arg-type]
        self.kinds = dict(kinds)

    def fits(self, row: Row) -> bool:
        ordered = {name for name, kind in self.kinds.items() if kind in ("lexical", "decimal")}
        return all(row.get(name.encode()) != b"" for name in ordered)

    @rule(key=keys, row=rows)
    def put(self, key: bytes, row: Row) -> None:
        if self.fits(row):
            self.table[key] = self.model[key] = row

    @rule(key=keys, row=rows)
    def putkeep(self, key: bytes, row: Row) -> None:
        if self.fits(row):
            assert self.table.putkeep(key, row) == (key not in self.model)
            self.model.setdefault(key, row)

    @rule(key=keys, row=rows)
    def putcat(self, key: bytes, row: Row) -> None:
        if self.fits(row):
            self.table.putcat(key, row)
            self.model[key] = {**row, **self.model.get(key, {})}

    @rule(key=keys, amount=st.integers(-3, 10**12))
    def add(self, key: bytes, amount: int) -> None:
        row = self.model.get(key, {})
        total = int(row.get(b"_num", b"0")) + amount
        assert self.table.add_int(key, amount) == total
        self.model[key] = {**row, b"_num": b"%d" % total}

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        assert self.table.pop(key, None) == self.model.pop(key, None)

    @rule(condition=conditions)
    def delete_found(self, condition: tuple[str, str, tuple[Any, ...], bool, bool]) -> None:
        found = self.expected(condition)
        assert self.query(condition).delete() == len(found)
        self.model = {key: row for key, row in self.model.items() if key not in found}

    @rule(condition=conditions, value=numbers)
    def update_found(self, condition: tuple[str, str, tuple[Any, ...], bool, bool], value: bytes) -> None:
        found = self.expected(condition)
        assert self.query(condition).update({b"n": value, b"c": None}) == len(found)
        for key in found:
            row = {**self.model[key], b"n": value}
            row.pop(b"c", None)
            self.model[key] = row

    @precondition(lambda self: self.saved is None)
    @rule(name=st.sampled_from(COLUMNS), kind=st.sampled_from([*KINDS, None]))
    def index(self, name: str, kind: str | None) -> None:
        if kind is None:
            if self.kinds.pop(name, None):
                self.table.drop_index(name)
            return
        kept = dict(self.kinds)
        self.kinds[name] = kind
        if all(map(self.fits, self.model.values())):
            self.table.create_index(name, kind)  # type: ignore[arg-type]
        else:
            self.kinds = kept

    @precondition(lambda self: self.saved is None)
    @rule(how=st.sampled_from(["optimize", "defrag", "clear_caches", "sync", "reopen", "begin"]))
    def maintain(self, how: str) -> None:
        if how == "reopen":
            self.table.close()
            problems = tc.verify(self.directory / "t", codec=self.options.get("codec"))
            assert problems == []
            self.table = tc.Table(self.directory / "t", "w", verify=True, **self.options)
        else:
            getattr(self.table, how)()
        if how == "begin":
            self.saved = dict(self.model)

    @precondition(lambda self: self.saved is not None)
    @rule(how=st.sampled_from(["commit", "abort"]))
    def end(self, how: str) -> None:
        getattr(self.table, how)()
        if how == "abort":
            assert self.saved is not None
            self.model = self.saved
        self.saved = None

    def query(self, condition: tuple[str, str, tuple[Any, ...], bool, bool]) -> tc.Query:
        name, kind, given, negate, index = condition
        found: tc.Query = getattr(self.table.query.col(name), kind)(*given, negate=negate, index=index)
        return found

    def expected(self, condition: tuple[str, str, tuple[Any, ...], bool, bool]) -> set[bytes]:
        name, kind, given, negate, _ = condition
        return matching(self.model, name.encode(), CONDITIONS[kind](*given), negate)

    @rule(first=conditions, second=conditions)
    def combine(self, first: Any, second: Any) -> None:
        a, b = self.query(first), self.query(second)
        x, y = self.expected(first), self.expected(second)
        assert set(a | b) == x | y
        assert set(a & b) == x & y
        assert set(a - b) == x - y
        name, kind, given, negate, index = second
        both = getattr(a.col(name), kind)(*given, negate=negate, index=index)
        assert sorted(both) == sorted(x & y)
        assert both.count() == len(x & y)

    @rule(
        condition=conditions,
        by=st.sampled_from(COLUMNS),
        numeric=st.booleans(),
        descending=st.booleans(),
        limit=st.none() | st.integers(0, 9),
        skip=st.integers(0, 5),
        union=st.booleans(),
    )
    def order(
        self, condition: Any, by: str, numeric: bool, descending: bool, limit: int | None, skip: int, union: bool
    ) -> None:
        query: tc.Query | tc.Combination = self.query(condition)
        expected = self.expected(condition)
        if union:
            query = query.union(query)
        ordered = query.order_by(by, numeric=numeric, descending=descending)
        every = places(self.model, expected, by.encode(), numeric, descending)
        found = list(ordered)
        assert sorted(found) == sorted(expected)
        assert [self.place(key, by, numeric) for key in found] == every
        if limit is not None:
            part = list(ordered.limit(limit, skip))
            assert [self.place(key, by, numeric) for key in part] == every[skip : skip + limit]
            assert set(part) <= expected
            assert len(set(query.limit(limit, skip))) == len(list(expected)[skip : skip + limit])

    def place(self, key: bytes, by: str, numeric: bool) -> object:
        value = self.model[key].get(by.encode()) if by else key
        return None if value is None else number(value) if numeric else value

    @invariant()
    def every_query_finds_what_a_scan_finds(self) -> None:
        if not hasattr(self, "table"):
            return
        assert dict(self.table.items()) == self.model
        assert len(self.table) == len(self.model)
        for name in COLUMNS:
            for kind, given in PROBES:
                for negate in (False, True):
                    condition = (name, kind, given, negate, True)
                    assert set(self.query(condition)) == self.expected(condition), condition

    def teardown(self) -> None:
        if hasattr(self, "table"):
            self.table.close()
        shutil.rmtree(self.directory)


PROBES: list[tuple[str, tuple[Any, ...]]] = [
    ("equals", (b"to be",)), ("equals", (b"7",)), ("includes", (b"be",)), ("startswith", (b"to",)),
    ("endswith", (b"be",)), ("one_of", ([b"12", b"7", b"to be"],)), ("one_of", ([b"be", b"12"],)),
    ("all_words", ([b"to", b"be"],)), ("any_word", ([b"or", b"12"],)), ("matches", (b"^t.*e$",)),
    ("num_equals", (7,)), ("num_gt", (0,)), ("num_ge", (7,)), ("num_lt", (0.5,)), ("num_le", (-0.25,)),
    ("num_between", (-5, 12)), ("num_one_of", ([7, 12, 1000],)), ("fts_phrase", ("to be",)), ("fts_phrase", ("o",)),
    ("fts_all", (["to", "be"],)), ("fts_any", (["not", "or"],)), ("fts", ("to || or !! not",)),
]  # fmt: skip

Twins.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
test_every_query_finds_what_a_scan_finds = Twins.TestCase
