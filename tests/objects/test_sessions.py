"""What happens to objects when their session commits, rolls back, ends, or meets another one."""

import pytest

import pykesto
from pykesto import ClosedError, ConcurrencyConflict, UsageError, col
from tests.objects.people import Dog, Person


def test_a_rollback_undoes_changes_and_makes_new_objects_strangers_again(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann", age=40))
    with db.session() as s:
        ann = s.query(Person).one()
        ann.age, ann.name = 1, "X"
        ann.friends.append(ann)
        new = s.add(Person(name="New"))
        s.rollback()
        assert (ann.age, ann.name, ann.friends) == (40, "Ann", [])
        assert s.query(Person).count() == 1
        with pytest.raises(AttributeError):
            assert new.k_id
        assert new.name == "New"
        s.add(new)  # and may be added again
        s.commit()
        assert s.query(Person).count() == 2


def test_a_deletion_is_undone_by_a_rollback(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as s:
        ann = s.query(Person).one()
        s.delete(ann)
        assert s.query(Person).count() == 0
        assert s.get(Person, ann.k_id) is None
        with pytest.raises(UsageError):
            ann.age = 1
        s.rollback()
        assert s.query(Person).one() is ann
        ann.age = 5
        s.commit()
        assert ann.age == 5


def test_an_object_reads_the_new_snapshot_after_a_commit(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = s.add(Person(name="Ann"))
        s.commit()
        with db.transaction() as other:
            other.query(Person).one().age = 41
        assert ann.age == 41


def test_what_was_loaded_stays_readable_after_close_and_nothing_more(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann = s.add(Person(name="Ann", friends=[Person(name="Bob")]))
    assert (ann.name, ann.age) == ("Ann", 0)
    assert ann.friends[0].name == "Bob"
    with db.session() as s:
        ann = s.query(Person).where(Person.name == "Ann").one()
        assert ann.name == "Ann"
        bob = ann.friends[0]
    assert ann.name == "Ann"
    with pytest.raises(ClosedError):
        assert bob.name  # was not loaded
    with pytest.raises(ClosedError):
        ann.age = 1
    with pytest.raises(ClosedError):
        ann.friends.append(ann)
    assert (ann.age, len(ann.friends)) == (0, 1)


def test_an_object_of_another_session_is_refused_everywhere(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as one, db.session() as other:
        ann = one.query(Person).one()
        bob = other.add(Person(name="Bob"))
        with pytest.raises(UsageError, match=r"s\.get\(Person"):
            other.add(ann)
        with pytest.raises(UsageError):
            other.delete(ann)
        bob.friends = [ann]
        with pytest.raises(UsageError, match=r"s\.get\(Person"):
            other.commit()
        bob.friends = [other.get(Person, ann.k_id)]  # type: ignore[list-item]
        other.commit()


def test_an_object_of_another_session_is_refused_as_an_operand(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as one, db.session() as other:
        ann = one.query(Person).one()
        with pytest.raises(UsageError, match=r"s\.get\(Person"):
            list(other.query(Person).where(col("friend") == ann))


def test_two_sessions_that_change_an_object_conflict_and_name_its_id(db: pykesto.Database) -> None:
    with db.transaction() as s:
        k_id = s.add(Person(name="Ann")).k_id
    with db.session() as one, db.session() as other:
        for s in one, other:
            s.query(Person).one().age += 1
        one.commit()
        with pytest.raises(ConcurrencyConflict) as caught:
            other.commit()
        assert caught.value.conflicts[0].key == k_id
        other.rollback()


def test_sessions_that_add_objects_do_not_conflict(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        for s in one, other:
            s.add(Person(name="same", friends=[Person(name="friend")]))
        one.commit()
        other.commit()
    with db.session() as s:
        assert s.query(Person).count() == 4


def test_refresh_drops_unsaved_changes(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann", age=40))
    with db.session() as s:
        ann = s.query(Person).one()
        ann.age = 1
        s.refresh(ann)
        assert ann.age == 40
        assert s.dirty == ()
        assert s.commit() == db.version


def test_new_dirty_and_deleted_name_the_objects(db: pykesto.Database) -> None:
    with db.transaction() as s:
        for name in "Ann", "Bob":
            s.add(Person(name=name))
    with db.session() as s:
        ann, bob = s.query(Person).order_by("name")
        new = s.add(Person(name="New"))
        ann.age = 1
        s.delete(bob)
        assert (s.new, s.dirty, s.deleted) == ((new,), (ann,), (bob,))
        s.commit()
        assert [p.name for p in s.query(Person).order_by("name")] == ["Ann", "New"]


def test_an_object_that_refers_to_one_deleted_in_the_same_session_can_be_changed(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Bob", friends=[Person(name="Ann")]))
    with db.transaction() as s:
        s.delete(s.query(Person).where(Person.name == "Ann").one())
        s.query(Person).where(Person.name == "Bob").one().age = 5  # as it can be in the next session


def test_a_native_query_conflicts_with_a_phantom(db: pykesto.Database) -> None:
    with db.session() as s:
        assert not list(s.query(Person, lambda p: p.age >= 18))
        s.add(Dog())
        with db.transaction() as other:
            other.add(Person(name="Ann", age=40))
        with pytest.raises(ConcurrencyConflict):
            s.commit()
        s.rollback()
