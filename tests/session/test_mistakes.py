"""Mistakes are refused where they are made, before anything is lost; what looks like one and is none works."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import ClosedError, CodecError, ConcurrencyConflict, UsageError, agg, col

NAN = float("nan")


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            for n in range(4):
                s.table("t")[n] = {"n": n, "c": "xy"[n % 2], "l": [n]}
        yield db


def stored(db: pykesto.Database, key: Any) -> dict[str, Any]:
    with db.session(read_only=True) as s:
        return s.table("t")[key].to_dict()


# Opening


@pytest.mark.parametrize("timeout", [-1, -0.5, NAN])
def test_a_lock_timeout_is_seconds(tmp_path: Path, timeout: float) -> None:
    with pytest.raises(UsageError, match="lock_timeout"):
        pykesto.open(tmp_path / "app.kesto", lock_timeout=timeout)
    assert not list(tmp_path.iterdir())


def test_what_is_no_number_is_no_lock_timeout_and_no_mode(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        pykesto.open(tmp_path / "app.kesto", lock_timeout="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mode"):
        pykesto.open(tmp_path / "app.kesto", mode="600")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_names_a_directory(path: str) -> None:
    with pytest.raises(UsageError, match="path of a directory"):
        pykesto.open(path)


def test_a_closed_database_is_not_entered_again(db: pykesto.Database) -> None:
    db.close()
    with pytest.raises(ClosedError), db:
        pass


def test_what_belongs_to_a_process_or_session_is_not_pickled_and_says_what_to_pass(db: pykesto.Database) -> None:
    with pytest.raises(TypeError, match="pass its path"):
        pickle.dumps(db)
    with db.session() as s:
        table = s.table("t")
        for whole, hint in ((s, "begin a session"), (table, "pass its name"), (table[1], r"row\.to_dict")):
            for duplicate in pickle.dumps, copy.copy, copy.deepcopy:
                with pytest.raises(TypeError, match=hint):
                    duplicate(whole)


# Transactions


class Later:
    async def __call__(self, s: pykesto.Session) -> None:
        pass


async def later(s: pykesto.Session) -> None:
    s.table("t")[9] = {}


@pytest.mark.parametrize("fn", [Later(), lambda s: later(s)])
def test_what_would_run_after_its_transaction_is_refused_however_it_is_called(
    db: pykesto.Database, fn: Callable[..., Any]
) -> None:
    with pytest.raises(UsageError, match="after its transaction"):
        db.run(fn)
    with pytest.raises(UsageError, match="after its transaction"):
        db.transactional(fn)()


@pytest.mark.parametrize("attempts", ["3", None, 1.5])
def test_attempts_are_a_whole_number(db: pykesto.Database, attempts: Any) -> None:
    with pytest.raises(TypeError, match="attempts is an int"):
        db.run(lambda s: None, attempts=attempts)


def test_a_hook_is_a_function(db: pykesto.Database) -> None:
    with db.session() as s:
        for hook in s.before_commit, s.after_commit, s.after_rollback:
            with pytest.raises(TypeError, match="takes a function"):
                hook(3)  # type: ignore[arg-type]


def test_a_commit_within_a_commit_is_refused_and_the_session_goes_on(db: pykesto.Database) -> None:
    again = [True]
    with db.session() as s:
        s.before_commit(lambda: s.commit() if again else None)
        s.table("t")[0]["n"] = 50
        with pytest.raises(UsageError, match="under way"):
            s.commit()
        again.clear()
        s.commit()
    assert stored(db, 0)["n"] == 50


def test_a_conflict_tells_once_what_was_asked_twice_and_names_the_range(db: pykesto.Database) -> None:
    with db.session() as s:
        table = s.table("t")
        assert len(list(table)) == 4  # which asks for the length, too
        assert [row.k_key for row in table.range(1, 3)] == [1, 2]
        with db.transaction() as other:
            other.table("t")[1]["n"] = 7
        s.table("u")[1] = {}
        with pytest.raises(ConcurrencyConflict) as caught:
            s.commit()
        assert [c.detail for c in caught.value.conflicts] == ["every row", "range(lo=1, hi=3)"]
        s.rollback()


def test_a_repr_tells_a_session_and_a_query_and_begins_nothing(db: pykesto.Database) -> None:
    with db.session() as s:
        query = s.table("t").query.col("n").ge(1).order_by("-n", "c").limit(2)
        assert repr(query) == "<Query t where n >= 1 order by -n, c limit 2>"
        assert (repr(s), repr(s.root), s.in_transaction) == ("<Session not begun>", "<Root>", False)
        s.table("t")[0] = {}
        assert repr(s) == f"<Session at version {s.version}, 1 changed>"
        s.rollback()
    assert repr(s) == "<Session closed>"


# Rows


@pytest.mark.parametrize("name", ["\ud800", "a\udfff"])
def test_a_name_that_utf_8_can_not_hold_is_refused_before_the_commit(db: pykesto.Database, name: str) -> None:
    with db.session() as s:
        with pytest.raises(CodecError):
            s.table(name)
        with pytest.raises(CodecError):
            s.root[name] = 1
        s.table("t")[0]["n"] = 9
        s.commit()


def test_what_can_not_be_stored_is_named_once(db: pykesto.Database) -> None:
    with db.session() as s:
        s.table("t")[0]["n"] = [object()]
        with pytest.raises(CodecError) as caught:
            s.commit()
        assert str(caught.value).startswith("t[0]['n'][0]: object is no type")
        assert caught.value.path == "['n'][0]"
        s.rollback()


def test_a_container_within_itself_is_refused_when_it_is_assigned(db: pykesto.Database) -> None:
    ring: list[Any] = []
    ring.append(ring)
    with db.session() as s:
        row = s.table("t")[0]
        for change in (lambda: row.update(n=ring), lambda: row["l"].append(ring)):
            with pytest.raises(CodecError, match="within itself"):
                change()
        s.rollback()
        assert row == {"n": 0, "c": "x", "l": [0]}


def test_a_row_that_another_commit_deleted_is_a_usage_error_to_write(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("t")[0]
        with db.transaction() as other:
            del other.table("t")[0]
        s.rollback()
        with pytest.raises(KeyError):
            row["n"]
        changes: list[Callable[[], Any]] = [
            lambda: row.__setitem__("n", 1),
            lambda: row.__delitem__("n"),
            lambda: row.pop("n", None),
            lambda: row.popitem(),
            lambda: row.update(n=1),
            lambda: row.clear(),
        ]
        for change in changes:
            with pytest.raises(UsageError, match="is deleted"):
                change()
        s.table("t")[0] = {"n": 5}
        assert row["n"] == 5


def test_what_is_taken_out_of_a_row_may_be_changed_by_who_has_it(db: pykesto.Database) -> None:
    with db.transaction() as s:
        row = s.table("t")[1]
        taken = row.pop("l")
        taken.append(2)
        assert (taken, type(taken)) == ([1, 2], list)
        assert row.pop("l", "none") == "none"
        with pytest.raises(KeyError):
            row.pop("l")
        assert row.popitem() == ("n", 1)
    assert stored(db, 1) == {"c": "y"}


def test_a_prefix_is_text_or_bytes(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(TypeError, match="prefix"):
        s.table("t").range(prefix=1)


# Queries


def test_update_computes_with_several_columns_and_operators(db: pykesto.Database) -> None:
    n = col("n")
    with db.session() as s:
        query = s.table("t").query.col("n").gt(1)
        for computed, expected in (
            (n * 2 + 1, [5, 7]),
            (10 - n, [8, 7]),
            (n / 2, [1.0, 1.5]),
            (7 // n, [3, 2]),
            (7 % n, [1, 1]),
            (n % 2, [0, 1]),
            (1 / n, [1 / 2, 1 / 3]),
            (n // 2, [1, 1]),
            ((1 + n) * (n - 1), [3, 8]),
            (2 * n, [4, 6]),
            (col("c"), ["x", "y"]),
            (col("c") + "!", ["x!", "y!"]),
        ):
            assert query.update(z=computed) == 2
            assert [row["z"] for row in query] == expected
        assert query.update(n=col("c"), c=n) == 2  # all of the old values
        assert (s.table("t")[2]["n"], s.table("t")[2]["c"]) == ("x", 2)
        s.rollback()
        assert query.update(z=n + col("missing")) == 2
        assert s.dirty == ()
        with pytest.raises(UsageError, match="division"):
            query.update(z=n / 0)
        with pytest.raises(TypeError, match="condition"):
            query.update(z=n > 1)
        assert s.dirty == ()


@pytest.mark.parametrize("indexed", [False, True])
def test_nothing_is_less_or_greater_than_nan(db: pykesto.Database, indexed: bool) -> None:
    with db.transaction() as s:
        s.table("t")[9] = {"n": NAN}
        if indexed:
            s.table("t").create_index("n")
    with db.session() as s:
        n, query = col("n"), s.table("t").query
        for condition in (n < NAN, n <= NAN, n > NAN, n >= NAN, n.between(0, NAN), n.between(NAN, 1), n == (1, NAN)):
            assert query.where(condition).count() == 0
            assert query.where(~condition).count() == 5


def test_a_compiled_pattern_matches_as_its_text_does(db: pykesto.Database) -> None:
    with db.session() as s:
        query = s.table("t").query
        assert query.col("c").matches(re.compile("X", re.IGNORECASE)).count() == 2
        with pytest.raises(UsageError, match="no regular expression"):
            query.col("c").matches("(")


@pytest.mark.parametrize(
    "make",
    [
        lambda q: q.col("c").startswith(1),
        lambda q: q.col("c").endswith(1),
        lambda q: q.col("c").endswith(("x", "y")),
        lambda q: q.col("c").in_("xy"),
        lambda q: q.col(1),
        lambda q: q.order_by(1),
        lambda q: q.where(col("n") > col("c")),
        lambda q: q.where(col("n") == (col("c") > 1)),
        lambda q: q.where(~col("n")),
        lambda q: q.where(col("n") & col("c")),
        lambda q: q.col("n") & (col("c") == 1),
        lambda q: q.col("n") + 1,
        lambda q: q.group_by("c").agg(n="count"),
    ],
)
def test_what_makes_no_query_is_a_type_error(db: pykesto.Database, make: Callable[[Any], Any]) -> None:
    with db.session() as s, pytest.raises(TypeError):
        make(s.table("t").query)


def test_names_in_queries_are_neither_empty_nor_given_twice(db: pykesto.Database) -> None:
    with db.session() as s:
        query = s.table("t").query
        for name in "", "-":
            with pytest.raises(UsageError, match="empty"):
                query.order_by(name)
        with pytest.raises(UsageError, match="another name"):
            query.group_by("c").agg(c=agg.count())


def test_what_has_no_truth_value_names_what_to_write(db: pykesto.Database) -> None:
    with db.session() as s:
        query: Any = s.table("t").query
        for thing in query, query.col("n"), col("n"), col("n") > 1:
            for ask in bool, lambda thing: 1 in thing:
                with pytest.raises(TypeError, match=r"& \| ~.*between\(\), contains\(\), exists\(\)"):
                    ask(thing)
