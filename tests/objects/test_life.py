"""What happens to objects between being made and being deleted, and to those that refer to them."""

import uuid
from typing import Any

import pytest

import pykesto
from pykesto import ClosedError, ConcurrencyConflict, UsageError, col, is_loaded, state_of, url_of


class City(pykesto.Persistent, name="life.City"):
    name: str


class Owner(pykesto.Persistent, name="life.Owner"):
    name: str
    city: City = None  # type: ignore[assignment]
    friends: list["Owner"] = pykesto.field(default_factory=list)
    likes: "Owner" = pykesto.field(weak=True, default=None)
    knows: list["Owner"] = pykesto.field(weak=True, default_factory=list)
    mood: str = pykesto.field(transient=True, default="fine")


class Pet(pykesto.Persistent, name="life.Pet"):
    owner: Owner = pykesto.field(on_delete="cascade")


class Letter(pykesto.Persistent, name="life.Letter"):
    to: Owner = pykesto.field(on_delete="nullify", default=None)
    copies: Any = pykesto.field(on_delete="nullify", default_factory=list)


class Debt(pykesto.Persistent, name="life.Debt"):
    debtor: Owner = pykesto.field(on_delete="restrict")


class Diary(pykesto.Persistent, name="life.Diary"):
    """Writes down what happens to it."""

    text: str = ""
    pages: int = pykesto.field(default=1, check=lambda n: n > 0)
    _v_seen: list[str]

    def _note(self, event: str) -> None:
        self.__dict__.setdefault("_v_seen", []).append(event)

    @pykesto.on("after_load")
    def _loaded(self) -> None:
        self._note("load")

    @pykesto.on("before_store")
    def _before(self) -> None:
        self._note("before")
        if self.text == "secret":
            raise PermissionError("not this one")
        self.text = self.text.strip()

    @pykesto.on("after_store")
    def _after(self) -> None:
        self._note("stored")

    @pykesto.on("before_delete", "after_delete")
    def _gone(self) -> None:
        self._note("delete")


def chain(s: pykesto.Session, length: int) -> None:
    """Owners, each a friend of the next, each in a city."""
    last = None
    for n in reversed(range(length)):
        last = Owner(name=f"o{n}", city=City(name=f"c{n}"), friends=[last] if last else [])
    s.root["chain"] = last


# Reading, counted and ahead


def test_an_object_is_read_when_it_is_touched_and_each_read_is_counted(db: pykesto.Database) -> None:
    with db.transaction() as s:
        chain(s, 3)
    with db.session() as s:
        first = s.root["chain"]
        assert not is_loaded(first) and isinstance(first, Owner) and s.loads == 0
        assert first.name == "o0" and is_loaded(first) and type(first) is Owner and s.loads == 1
        second = first.friends[0]
        assert not is_loaded(second)
        assert "not loaded" in repr(second) and s.loads == 1
        assert second.city.name == "c1" and s.loads == 3


def test_prefetch_reads_along_paths_and_no_touch_reads_then(db: pykesto.Database) -> None:
    with db.transaction() as s:
        chain(s, 4)
    with db.session() as s:
        first = s.root["chain"]
        s.prefetch(first, "friends.friends.city", "city")
        with s.loads_at_most(0):
            assert first.friends[0].friends[0].city.name == "c2"
            assert first.city.name == "c0"
            with pytest.raises(UsageError, match="prefetch"):
                assert first.friends[0].city.name
        assert first.friends[0].city.name == "c1"


def test_what_is_read_is_bounded_and_what_is_in_use_is_kept(db: pykesto.Database) -> None:
    with db.transaction() as s:
        chain(s, 50)
    with db.session() as s:
        s.cache_bytes = 5_000
        seen, owner = [], s.root["chain"]
        friends = owner.friends
        while owner is not None:
            seen.append(owner)
            owner = owner.friends[0] if owner.friends else None
        assert len(seen) == 50
        assert sum(map(is_loaded, seen)) < 12
        assert [owner.name for owner in seen] == [f"o{n}" for n in range(50)]
        friends.append(seen[5])  # was read before, and is still the object's own
        seen[7].name = "changed"
        s.commit()
    with db.session() as s:
        assert len(s.root["chain"].friends) == 2
        assert s.query(Owner).where(Owner.name == "changed").count() == 1


def test_an_object_that_nobody_refers_to_leaves_memory_and_keeps_its_changes(db: pykesto.Database) -> None:
    with db.transaction() as s:
        chain(s, 2)
    with db.session() as s:
        s.cache_bytes = 0
        s.root["chain"].friends[0].name = "new"
        assert s.root["chain"].friends[0].name == "new"
        s.commit()


def test_transient_attributes_are_not_stored(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Owner(name="Ann", mood="grim"))
    with db.session() as s:
        assert s.query(Owner).one().mood == "fine"


# Detached


def test_a_detached_object_is_merged_into_another_session(db: pykesto.Database) -> None:
    with db.transaction() as s:
        chain(s, 3)
    with db.session() as s:
        owner = s.root["chain"]
        assert state_of(owner) == "clean"
        s.detach(owner)
        assert state_of(owner) == "detached"
    owner.name = "Zoe"
    owner.friends.append(owner.friends[0])
    with db.transaction() as s:
        with pytest.raises(UsageError, match="merge"):
            s.add(owner)
        own = s.merge(owner)
        assert own is not owner and own is s.root["chain"] and s.dirty == (own,)
    with db.session() as s:
        assert (s.root["chain"].name, len(s.root["chain"].friends)) == ("Zoe", 2)
        with pytest.raises(ConcurrencyConflict):
            s.merge(owner)  # it has changed since


def test_an_object_with_changes_is_not_detached(db: pykesto.Database) -> None:
    with db.session() as s:
        with pytest.raises(UsageError):
            s.detach(s.add(Owner(name="Ann")))
        s.rollback()


def test_after_close_what_was_not_read_says_so(db: pykesto.Database) -> None:
    with db.transaction() as s:
        chain(s, 2)
    with db.session() as s:
        first = s.root["chain"]
        friend = first.friends[0]
    assert first.name == "o0"
    with pytest.raises(ClosedError):
        assert friend.name


def test_nothing_in_the_session_refers_to_what_was_detached(db: pykesto.Database) -> None:
    with db.session() as s:
        chain(s, 2)
        s.commit()
        first = s.root["chain"]
        friend = first.friends[0]
        first.name = "changed"
        with pytest.raises(UsageError, match="commit first"):
            s.detach(friend)
        s.commit()
        s.detach(friend)
        assert first.friends[0] is not friend and first.friends[0].name == "o1"
        friend.name = "edited"
        assert s.merge(friend) is first.friends[0]
        s.commit()
        assert first.friends[0].name == "edited"


# Names in URLs


def test_an_object_has_a_url_and_is_found_by_it(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = s.add(Owner(name="Ann"))
        s.commit()
        assert s.at_url("https://example.org/things/" + url_of(ann)) is ann
        assert s.at_url(f"life.City/{ann.k_id}") is None
        assert s.at_url(f"life.Owner/{uuid.uuid4()}") is None
        with pytest.raises(UsageError):
            s.at_url("life.Owner/7")
        with pytest.raises(UsageError):
            url_of(Owner(name="new"))


# Who refers to what


def test_referrers_are_found(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = s.add(Owner(name="Ann"))
        bob, eve = s.add(Owner(name="Bob", friends=[ann])), s.add(Pet(owner=ann))
        assert list(s.referrers(ann, Owner.friends)) == [bob]
        s.commit()
        assert list(s.referrers(ann, Pet.owner)) == [eve]
        assert s.referrers(bob, Owner.friends).count() == 0


def test_a_weak_reference_does_not_store_and_is_none_after_the_deletion(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = Owner(name="Ann")
        bob = s.add(Owner(name="Bob", likes=ann))
        with pytest.raises(UsageError, match="weakly"):
            s.commit()
        s.add(ann)
        bob.knows = [ann, bob]
        s.commit()
        assert bob.likes is ann and bob.knows == [ann, bob]
    with db.transaction() as s:
        bob = s.query(Owner).where(Owner.name == "Bob").one()
        assert bob.likes.name == "Ann" and len(bob.knows) == 2
        s.delete(bob.likes)
    with db.session() as s:
        bob = s.query(Owner).one()
        assert bob.likes is None and bob.knows == [bob]


class Note(pykesto.Persistent, name="life.Note"):
    text: str = pykesto.field(index="text", default="")
    tags: list[Any] = pykesto.field(index="each", default_factory=list)
    about: Any = pykesto.field(index="references", default=None)


def test_elements_words_and_references_of_attributes_are_indexed(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann, bob = s.add(Owner(name="Ann")), s.add(Owner(name="Bob"))
        s.add(Note(text="Feed the cat", tags=["home", ann], about=[1, {"x": (bob,)}]))
        s.add(Note(text="Call her", tags=["work", bob], about={"who": ann}))
        s.add(Note(text="Water the plants", tags=["home"], about=ann))
    db.checkpoint()
    with db.session() as s:
        ann, bob = s.query(Owner).order_by("name")
        notes = s.query(Note)
        column: Any = Note
        for query, texts in (
            (notes.where(column.text.has_words("the")), ["Feed the cat", "Water the plants"]),
            (notes.where(column.tags.contains("home")), ["Feed the cat", "Water the plants"]),
            (notes.where(column.tags.contains(bob)), ["Call her"]),
            (notes.where(column.about.any(Owner.name == "Ann")), ["Call her"]),
            (s.referrers(ann, Note.about), ["Call her", "Water the plants"]),
            (s.referrers(bob, Note.about), []),  # it is within what is within
        ):
            assert sorted(note.text for note in query) == texts
            assert any(f"({kind})" in query.explain() for kind in ("text", "each", "references")), query.explain()
        new = s.add(Note(text="New", about=bob))
        assert list(s.referrers(bob, Note.about)) == [new]
    for wrong in {"index": "words"}, {"index": "each", "unique": True}:
        with pytest.raises(UsageError):
            pykesto.field(**wrong)  # type: ignore[arg-type]


# On delete


def test_who_refers_to_what_is_deleted_is_found_by_an_index(db: pykesto.Database) -> None:
    with db.transaction() as s:
        owners = [s.add(Owner(name=f"o{n}")) for n in range(50)]
        for owner in owners:
            s.add(Letter(to=owner, copies=[owners[0], owners[1]]))
    db.checkpoint()
    with db.transaction() as s:
        one = s.query(Owner).where(Owner.name == "o7").one()
        assert "(references)" in s.referrers(one, Letter.to).explain()
        s.delete(one)
        assert s.query(Letter).where(col(Letter.to).is_none()).count() == 1


def test_a_deletion_cascades_nullifies_and_is_restricted_as_declared(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann, bob = s.add(Owner(name="Ann")), s.add(Owner(name="Bob"))
        for thing in Pet(owner=ann), Pet(owner=bob), Letter(to=ann, copies=[bob, ann]), Letter(to=bob, copies=(ann, 1)):
            s.add(thing)
        s.add(Letter(to=bob, copies={"first": ann, "then": bob}))
        s.add(Debt(debtor=ann))
    with db.session() as s:
        ann, bob = s.query(Owner).order_by("name")
        s.delete(ann)
        assert [pet.owner for pet in s.query(Pet)] == [bob]
        letters = list(s.query(Letter))
        assert [letter.to for letter in letters] == [None, bob, bob]
        assert [letter.copies for letter in letters] == [[bob], (1,), {"then": bob}]
        with pytest.raises(UsageError, match="restrict"):
            s.commit()
        s.delete(s.query(Debt).one())
        s.commit()
    with db.session() as s:
        assert (s.query(Owner).count(), s.query(Pet).count(), s.query(Debt).count()) == (1, 1, 0)


def test_a_cascade_goes_on_and_round(db: pykesto.Database) -> None:
    class Link(pykesto.Persistent, name="life.Link"):
        next: Any = pykesto.field(on_delete="cascade", default=None)

    with db.transaction() as s:
        links = [s.add(Link()) for _ in range(5)]
        for at, link in enumerate(links):
            link.next = links[at - 1]
    with db.transaction() as s:
        s.delete(s.query(Link).first())
        assert s.query(Link).count() == 0


# Events and checks


def test_events_are_told_in_their_order(db: pykesto.Database) -> None:
    with db.session() as s:
        diary = s.add(Diary(text=" a "))
        s.commit()
        assert diary._v_seen == ["before", "stored"]
        assert diary.text == "a"
    with db.session() as s:
        diary = s.query(Diary).one()
        assert diary._v_seen == ["load"]
        diary.pages = 3
        assert s.query(Diary).count() == 1  # a query stores nothing
        s.commit()
        s.delete(diary)
        s.commit()
        assert diary.__dict__["_v_seen"] == ["load", "before", "stored", "delete", "delete"]


def test_what_an_event_or_a_check_refuses_is_not_committed(db: pykesto.Database) -> None:
    with db.session() as s:
        diary = s.add(Diary(text="secret"))
        with pytest.raises(PermissionError):
            s.commit()
        diary.text, diary.pages = "open", 0
        with pytest.raises(UsageError, match="pages is 0"):
            s.commit()
        diary.pages = 1
        s.commit()
    with pytest.raises(UsageError):
        pykesto.on("lunch")  # type: ignore[arg-type]


def test_an_object_reached_at_the_commit_is_told_too(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["diary"] = {"mine": Diary(text=" b ")}
    with db.session() as s:
        assert s.root["diary"]["mine"].text == "b"
