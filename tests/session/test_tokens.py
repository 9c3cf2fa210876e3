"""Edit tokens: a conflict is seen over minutes, between the page that showed a row and the form that came back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pykesto
from pykesto import ConcurrencyConflict, ReadOnlyError, StaleToken, UsageError
from pykesto.tokens import Edited, pack_token, unpack_token
from tests.model import keys

KEY = b"a secret of the test alone"


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("pages")["home"] = {"text": "Hello", "views": 1}
        yield db


def token_of(db: pykesto.Database, key: object = "home") -> str:
    with db.session() as s:
        token: str = s.table("pages")[key].k_token
        return token


def test_changes_are_applied_to_the_row_that_was_shown(db: pykesto.Database) -> None:
    token = token_of(db)
    with db.transaction() as s:
        row = s.apply(token, {"text": "Good morning"})
        assert row is s.table("pages")["home"]
    with db.session() as s:
        assert s.table("pages")["home"] == {"text": "Good morning", "views": 1}


def test_a_token_says_which_commit_was_faster(db: pykesto.Database) -> None:
    token = token_of(db)
    with db.transaction(note="the editor in chief") as s:
        s.table("pages")["home"]["text"] = "Good evening"
    with db.session() as s:
        with pytest.raises(StaleToken, match=r"pages\['home'\].*'the editor in chief'") as caught:
            s.apply(token, {"text": "Good morning"})
        (conflict,) = caught.value.conflicts
        assert (conflict.table, conflict.key, conflict.note) == ("pages", "home", "the editor in chief")
        assert conflict.current_version == db.version > conflict.read_version
        assert isinstance(caught.value, ConcurrencyConflict) and not caught.value.retryable
        assert s.table("pages")["home"]["text"] == "Good evening"
        assert s.dirty == ()


def test_a_token_of_a_row_that_is_gone_or_was_made_again_is_stale(db: pykesto.Database) -> None:
    token = token_of(db)
    with db.transaction() as s:
        del s.table("pages")["home"]
    with db.session() as s, pytest.raises(StaleToken, match="is gone"):
        s.apply(token, {})
    with db.transaction() as s:
        s.table("pages")["home"] = {"text": "Hello", "views": 1}
    with db.session() as s, pytest.raises(StaleToken):
        s.apply(token, {})


def test_a_stale_token_is_not_tried_again(db: pykesto.Database) -> None:
    token, ran = token_of(db), []

    def edit(s: pykesto.Session) -> None:
        ran.append(s)
        s.apply(token, {"text": "x"})

    db.run(edit)
    with pytest.raises(StaleToken):
        db.run(edit)
    assert len(ran) == 2


def test_a_commit_between_apply_and_its_commit_is_a_conflict_like_any_other(db: pykesto.Database) -> None:
    token = token_of(db)
    with db.session() as s:
        s.apply(token, {"text": "x"})
        with db.transaction() as other:
            other.table("pages")["home"]["text"] = "y"
        with pytest.raises(ConcurrencyConflict):
            s.commit()
        s.rollback()


def test_without_changes_apply_only_looks(db: pykesto.Database) -> None:
    token = token_of(db)
    with db.transaction() as s:
        s.delete(s.apply(token))
    with db.session() as s:
        assert "home" not in s.table("pages")


def test_a_row_with_changes_of_its_own_has_no_token_until_they_are_committed(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("pages")["home"]
        before = row.k_token
        row["views"] += 1
        s.table("pages")["new"] = {}
        for dirty in row, s.table("pages")["new"]:
            with pytest.raises(UsageError, match="commit first"):
                dirty.k_token  # noqa: B018
        s.commit()
        assert row.k_token != before
        assert s.apply(row.k_token) is row


def test_a_token_is_refused_by_a_session_that_may_not_write(db: pykesto.Database) -> None:
    token = token_of(db)
    with db.session(read_only=True) as s:
        assert s.apply(token)["text"] == "Hello"
        with pytest.raises(ReadOnlyError):
            s.apply(token, {"text": "x"})


@given(st.text(min_size=1, max_size=9), keys, st.integers(1, (1 << 63) - 1), st.sampled_from([None, KEY]))
def test_a_token_is_short_text_for_a_url_and_gives_back_what_it_stands_for(
    table: str, key: object, version: int, secret: bytes | None
) -> None:
    token = pack_token(Edited(table, key, version), secret)
    assert token.isascii() and token.replace("-", "a").replace("_", "a").isalnum()
    assert unpack_token(token, secret) == (table, key, version)


@given(st.data())
def test_no_token_can_be_changed(data: st.DataObject) -> None:
    secret = data.draw(st.sampled_from([None, KEY]))
    token = pack_token(Edited("pages", "home", 7), secret)
    place = data.draw(st.integers(0, len(token) - 2))  # bits of the last character may mean nothing
    other = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda letter: letter != token[place]))
    with pytest.raises(UsageError):
        unpack_token(token[:place] + other + token[place + 1 :], secret)


@given(st.one_of(st.text(), st.text("abAB01-_=", max_size=60)))
def test_what_is_no_token_is_refused(text: str) -> None:
    for secret in None, KEY:
        with pytest.raises(UsageError):
            unpack_token(text, secret)


def test_a_signed_token_is_worth_something_with_its_key_only(database: Path, db: pykesto.Database) -> None:
    with pykesto.open(database, token_key=KEY) as signing:
        signed, plain = token_of(signing), token_of(db)
        for handle, token in (db, signed), (signing, plain):
            with handle.session() as s, pytest.raises(UsageError, match="token_key"):
                s.apply(token, {})
        with db.session(token_key=b"another secret of this test") as s, pytest.raises(UsageError, match="another"):
            s.apply(signed, {})
        with db.session(token_key=KEY) as s:
            assert s.apply(signed)["text"] == "Hello"
        assert KEY.decode() not in repr(signing._options)


@pytest.mark.parametrize("key", [b"", b"short", "a secret that is no bytes"])
def test_a_key_that_signs_is_long_enough(db: pykesto.Database, key: bytes) -> None:
    with pytest.raises(UsageError, match="16 bytes"):
        db.session(token_key=key)


def test_a_token_is_text(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(TypeError):
        s.apply(b"token")  # type: ignore[arg-type]
