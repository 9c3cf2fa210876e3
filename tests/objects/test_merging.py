"""Attributes with a merge policy, and edit tokens: two ways for commits that meet on one object."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from pykesto import ConcurrencyConflict, UsageError
from pykesto.errors import StaleToken
from tests.processes import Worker


class Page(pykesto.Persistent, name="merging.Page"):
    name: str = pykesto.field(index=True)
    hits: int = pykesto.field(merge="counter", default=0)
    seen: set[str] = pykesto.field(merge="set_add", default_factory=set)
    last: int = pykesto.field(merge="max", default=0)
    title: str = ""


class Chapter(Page, name="merging.Chapter"):
    """Inherits the policies."""


class Score(pykesto.Persistent, name="merging.Score"):
    """Has an attribute of the same name without a policy."""

    hits: int = 0


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.add(Page(name="home"))
            s.root["score"] = Score()
        yield db


def home(s: pykesto.Session) -> Page:
    return s.query(Page).where(Page.name == "home").one()


def visit(s: pykesto.Session, reader: str, at: int) -> Page:
    page = home(s)
    page.hits += 1
    page.seen.add(reader)
    page.last = max(page.last, at)
    return page


def visit_often(here: SimpleNamespace, path: str, reader: str, times: int) -> None:
    with pykesto.open(path, durability="process") as db:
        for at in range(times):
            with db.transaction() as s:
                visit(s, reader, at)


def test_commits_that_change_attributes_with_policies_go_together(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        mine, theirs = visit(one, "ann", 7), visit(other, "bob", 5)
        one.commit()
        other.commit()
        assert (theirs.hits, theirs.seen, theirs.last) == (2, {"ann", "bob"}, 7)
        one.rollback()
        assert (mine.hits, mine.seen, mine.last) == (2, {"ann", "bob"}, 7)


def test_an_object_that_was_not_merged_keeps_its_containers_through_the_commit(db: pykesto.Database) -> None:
    with db.session() as s:
        page = visit(s, "ann", 1)
        seen = page.seen
        s.commit()
        assert page.seen is seen
        seen.add("bob")
        s.commit()
    with db.session() as s:
        assert home(s).seen == {"ann", "bob"}


def test_a_container_of_an_object_that_was_merged_refuses_to_be_changed(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        visit(one, "ann", 1)
        page = visit(other, "bob", 1)
        seen = page.seen
        one.commit()
        other.commit()
        assert page.hits == 2
        with pytest.raises(UsageError, match="read it again"):
            seen.add("eve")
        page.seen.add("eve")
        other.commit()
    with db.session() as s:
        assert home(s).seen == {"ann", "bob", "eve"}


def test_processes_that_count_in_one_object_lose_nothing_and_never_conflict(db: pykesto.Database) -> None:
    workers = [Worker(), Worker()]
    try:
        for name, worker in zip("ab", workers, strict=True):
            worker.start(visit_often, str(db.path), name, 50)
        for worker in workers:
            worker.result()
    finally:
        for worker in workers:
            worker.end()
    with db.session() as s:
        assert (home(s).hits, home(s).seen, home(s).last) == (100, {"a", "b"}, 49)


def test_an_attribute_without_a_policy_conflicts_whoever_changed_it(db: pykesto.Database) -> None:
    for first, second in ("title", "hits"), ("hits", "title"), ("title", "title"):
        with db.session() as one, db.session() as other:
            for s, name in (one, first), (other, second):
                setattr(home(s), name, f"by {id(s)}" if name == "title" else home(s).hits + 1)
            one.commit()
            with pytest.raises(ConcurrencyConflict):
                other.commit()
            other.rollback()


def test_a_query_that_would_find_the_object_no_more_conflicts(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        page = one.query(Page).where(Page.hits == 0).one()
        page.hits += 1
        visit(other, "bob", 1)
        other.commit()
        with pytest.raises(ConcurrencyConflict):
            one.commit()
        one.rollback()


def test_a_policy_is_of_its_class_and_those_below_it(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["chapter"] = Chapter(name="one")
    for name, goes in ("chapter", True), ("score", False):
        with db.session() as one, db.session() as other:
            for s in one, other:
                s.root[name].hits += 1
            one.commit()
            if goes:
                assert other.commit()
            else:
                with pytest.raises(ConcurrencyConflict):
                    other.commit()
                other.rollback()
    with db.session() as s:
        assert (s.root["chapter"].hits, s.root["score"].hits) == (2, 1)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="counter"):
        pykesto.field(merge="sum")  # type: ignore[arg-type]


# Edit tokens


def test_a_token_lets_changes_through_until_somebody_else_made_some(db: pykesto.Database) -> None:
    with db.session() as s:
        token = home(s).k_token
        assert token == home(s).k_token
    with db.transaction(note="edited by ann") as s:
        page = s.apply(token, {"title": "Home"})
        assert page is home(s)
    with pytest.raises(StaleToken) as caught, db.transaction() as s:
        s.apply(token, {"title": "Casa"})
    (conflict,) = caught.value.conflicts
    assert (conflict.key, conflict.note) == (page.k_id, "edited by ann")
    with db.session() as s:
        assert home(s).title == "Home"
        assert s.apply(home(s).k_token) is home(s)  # only looks


def test_a_token_of_a_deleted_object_is_stale(db: pykesto.Database) -> None:
    with db.transaction() as s:
        token = home(s).k_token
        s.delete(home(s))
    with pytest.raises(StaleToken), db.transaction() as s:
        s.apply(token)


def test_what_is_not_stored_as_it_is_has_no_token(db: pykesto.Database) -> None:
    with db.session() as s:
        page = home(s)
        page.title = "new"
        for without in page, Page(name="transient"):
            with pytest.raises(UsageError, match="commit first"):
                without.k_token  # noqa: B018
        s.rollback()


def test_a_form_can_change_no_private_attribute(db: pykesto.Database) -> None:
    with db.session() as s:
        token = home(s).k_token
        for name in "__class__", "_k_key", "k_id":
            with pytest.raises((UsageError, AttributeError)):
                s.apply(token, {name: "x"})


def test_a_token_is_signed_where_the_database_has_a_key(database: Path) -> None:
    with pykesto.open(database, durability="process") as plain, plain.transaction() as s:
        s.add(Page(name="home"))
    with pykesto.open(database, durability="process") as plain, plain.session() as s:
        unsigned = home(s).k_token
    with pykesto.open(database, durability="process", token_key=b"k" * 16) as db, db.session() as s:
        with pytest.raises(UsageError, match="signed"):
            s.apply(unsigned)
        assert s.apply(home(s).k_token) is home(s)
