"""Classes that tests of objects share, and how they open the database again."""

from typing import ClassVar

import pykesto


class Person(pykesto.Persistent, name="tests.Person"):
    name: str
    age: int = 0
    email: str | None = pykesto.field(index=True, unique=True, default=None)
    friends: list["Person"] = pykesto.field(default_factory=list)
    species: ClassVar[str] = "human"

    @property
    def upper(self) -> str:
        return self.name.upper()


class Student(Person, name="tests.Student"):
    school: str = "none"


class Dog(pykesto.Persistent, name="tests.Dog"):
    name: str = "Rex"


def reopened(db: pykesto.Database) -> pykesto.Database:
    path = db.path
    db.checkpoint()
    db.close()
    return pykesto.open(path)
