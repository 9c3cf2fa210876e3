"""Full text: what is found, in what order, and the snippets; the same with an index and without."""

import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pykesto
from pykesto import UsageError
from pykesto.query.search import Wanted, scores, snippet

vocabulary = ["boat", "Boats", "boathouse", "small", "SMALL", "lake", "straße", "STRASSE", "x"]
texts = st.lists(st.sampled_from(vocabulary), max_size=8).map(" ".join)


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as opened:
        yield opened


def fill(db: pykesto.Database, rows: dict[Any, Any], *, indexed: bool) -> None:
    with db.transaction() as s:
        notes = s.table("notes")
        if indexed:
            notes.create_index("text", kind="text")
        for key, text in rows.items():
            notes[key] = {"text": text}
    db.checkpoint()


@pytest.mark.parametrize("indexed", [False, True])
def test_more_of_a_word_in_a_shorter_text_comes_first(db: pykesto.Database, indexed: bool) -> None:
    rows = {
        1: "a boat on the lake",
        2: "boat, boat, boat",
        3: "no ship",
        4: "a boat " + "and so on " * 30,
        5: None,
        6: 7,
    }
    fill(db, rows, indexed=indexed)
    with db.session(read_only=True) as s:
        query = s.table("notes").query
        assert [hit.item.k_key for hit in query.search("text", "BOAT")] == [2, 1, 4]
        assert [hit.item.k_key for hit in query.limit(1).offset(1).search("text", "boat")] == [1]
        assert [hit.item.k_key for hit in query.where(pykesto.col("k_key") > 1).search("text", "boat")] == [2, 4]
        assert query.search("text", "boat ship") == []


def test_a_rare_word_tells_more_than_a_common_one(db: pykesto.Database) -> None:
    rows: dict[Any, Any] = dict.fromkeys(range(50), "common")
    fill(db, rows | {50: "rare rare common x", 51: "common common rare x"}, indexed=True)
    with db.session(read_only=True) as s:
        assert [hit.item.k_key for hit in s.table("notes").query.search("text", "common rare")] == [50, 51]


def test_the_sessions_own_changes_are_searched_too(db: pykesto.Database) -> None:
    fill(db, {1: "boat", 2: "boat boat"}, indexed=True)
    with db.session() as s:
        notes = s.table("notes")
        notes[1]["text"] = "nothing"
        notes[3] = {"text": ["a list of texts", "one of a boat"]}
        assert [hit.item.k_key for hit in notes.query.search("text", "boat")] == [2, 3]


def test_a_search_conflicts_with_what_would_change_it(db: pykesto.Database) -> None:
    fill(db, {1: "boat", 2: "ship"}, indexed=True)
    with db.session() as s:
        s.table("notes").query.search("text", "boat")
        s.table("log")["found"] = {"n": 1}
        with db.transaction() as other:
            other.table("notes")[2]["text"] = "another boat"
        with pytest.raises(pykesto.ConcurrencyConflict):
            s.commit()


def test_what_makes_no_sense_is_refused(db: pykesto.Database) -> None:
    with db.session(read_only=True) as s:
        query = s.table("notes").query
        with pytest.raises(UsageError, match="no word"):
            query.search("text", " *, ")
        with pytest.raises(UsageError, match="order"):
            query.order_by("text").search("text", "boat")
        with pytest.raises(UsageError, match="width"):
            query.search("text", "boat", width=-1)


@settings(max_examples=40)
@given(st.lists(texts, max_size=6), st.lists(st.sampled_from([*vocabulary, "boat*", "s*"]), min_size=1, max_size=3))
def test_an_index_changes_no_score(rows: list[str], asked: list[str]) -> None:
    with pykesto.temporary() as db:
        with db.transaction() as s:
            s.table("indexed").create_index("text", kind="text")
            for name in ("plain", "indexed"):
                for number, text in enumerate(rows):
                    s.table(name)[number] = {"text": text}
        with db.session(read_only=True) as s:
            plain, indexed = (
                [
                    (hit.item.k_key, hit.score, hit.snippet)
                    for hit in s.table(name).query.search("text", " ".join(asked))
                ]
                for name in ("plain", "indexed")
            )
        assert plain == indexed
        assert [score for _, score, _ in plain] == sorted((score for _, score, _ in plain), reverse=True)


# Snippets

words = st.lists(st.text(string.ascii_letters + "ßé", min_size=1, max_size=12), min_size=1, max_size=60)


@given(words, st.integers(0, 200), st.data())
def test_a_snippet_is_a_part_of_the_text_with_marks(found: list[str], width: int, data: st.DataObject) -> None:
    word = data.draw(st.sampled_from(found))
    text = " ".join(found)
    wanted = Wanted((pykesto.codec.terms.words(word)[0],), ())
    made = snippet(text, wanted, width, ("[", "]"))
    bare = made.removeprefix("… ").removesuffix(" …").replace("[", "").replace("]", "")
    assert bare in text
    assert len(bare) <= max(width, len(word))
    assert made.count("[") == made.count("]") >= (1 if width >= len(word) else 0)
    assert made.startswith("… ") or text.startswith(bare)
    assert made.endswith(" …") or text.endswith(bare)


def test_a_snippet_shows_where_most_of_the_words_are() -> None:
    text = "boat " + "filler " * 40 + "the small boat. " + "filler " * 40
    wanted = Wanted(("small", "boat"), ())
    assert "the [small] [boat]." in snippet(text, wanted, 40, ("[", "]"))
    assert snippet(None, wanted, 40, ("[", "]")) == ""
    assert snippet("E\u0301TE\u0301 x", Wanted(("\u00e9t\u00e9",), ()), 40, ("<", ">")) == "<E\u0301TE\u0301> x"


def test_no_texts_have_no_scores() -> None:
    assert scores([], Wanted(("a",), ()), {"a": 0}) == []
