"""What a class, a field or a call gets wrong is refused at once; what is asked is told by names that people know."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

import pykesto
from pykesto import CodecError, UsageError
from tests.objects.people import Dog, Person


class Walk(pykesto.Persistent, name="tests.Walk"):
    dog: Dog
    minutes: int = 0


@pytest.mark.parametrize("wrong", [{"default_factory": 3}, {"check": 3}, {"was": 3}])
def test_a_field_takes_functions_and_a_former_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        pykesto.field(**wrong)


def test_a_method_has_no_reserved_name_and_a_class_is_stored_under_a_str() -> None:
    with pytest.raises(UsageError, match="reserved"):

        class _Reserved(pykesto.Persistent):
            def k_method(self) -> None: ...

    with pytest.raises(TypeError, match="str"):

        class _Numbered(pykesto.Persistent, name=3):  # type: ignore[arg-type]
            pass


def test_a_class_variable_is_plain_however_typing_was_imported() -> None:
    class _Counted(pykesto.Persistent):
        made: typing_of_mine.ClassVar[int] = 0  # type: ignore[name-defined]  # noqa: F821
        total: ClassVar = 1  # type: ignore[type-arg]

    assert (_Counted.made, _Counted.total) == (0, 1)


def test_what_is_no_class_or_object_is_a_type_error(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = s.add(Person(name="Ann"))
        for cls in int, "Person":
            with pytest.raises(TypeError):
                s.get(cls, ann.k_id)  # type: ignore[type-var, arg-type]
        with pytest.raises(TypeError, match="neither a row"):
            s.refresh(3)  # type: ignore[arg-type]
        s.rollback()


def test_a_query_of_objects_names_the_class(db: pykesto.Database) -> None:
    with db.session() as s:
        query = s.query(Walk).where(Walk.dog.name == "Rex").order_by("-minutes")
        assert repr(query) == "<ObjectQuery Walk where dog.name == 'Rex' order by -minutes>"
        with pytest.raises(pykesto.NoResultFound, match=r"none of Walk where dog\.name == 'Rex'"):
            query.one()


def test_a_container_within_itself_or_nested_without_end_is_refused(db: pykesto.Database) -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: Any = []
    for _ in range(100_000):
        deep = {"deeper": [deep]}
    with db.session() as s:
        ann: Any = s.add(Person(name="Ann"))
        s.commit()
        for value in ring, {"in": ring}, (ring,), deep:
            with pytest.raises(CodecError, match="within itself"):
                ann.notes = value
            with pytest.raises(CodecError, match="within itself"):
                ann.friends.append(value)
            bob: Any = Person(name="Bob")
            bob.notes = value
            with pytest.raises(CodecError):
                s.add(bob)
            s.rollback()
        assert s.query(Person).count() == 1
