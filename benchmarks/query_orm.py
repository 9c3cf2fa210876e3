"""The people of `query_peers` in SQLAlchemy on SQLite. Its annotations are evaluated, so they are no strings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

__all__ = ["Person", "count", "select", "session_on"]


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str]
    team: Mapped[int]
    kind: Mapped[str]
    points: Mapped[int]
    score: Mapped[float]
    active: Mapped[int]


def count() -> Any:
    return select(func.count()).select_from(Person)


def session_on(path: Path, pragmas: Sequence[str]) -> sessionmaker[Session]:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    return sessionmaker(engine, expire_on_commit=False)
