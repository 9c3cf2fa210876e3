"""The graph of `objects_peers` in SQLAlchemy on SQLite. Its annotations are evaluated, so they are no strings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ForeignKey, Integer, String, Table, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from .objects_peers import Made, build


class Base(DeclarativeBase):
    pass


uses = Table(
    "uses",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("assembly", ForeignKey("assembly.id"), index=True),
    Column("composite", ForeignKey("composite.id")),
)


class SqlUse(Base):
    __table__ = uses
    part: Mapped["SqlComposite"] = relationship()


class SqlAssembly(Base):
    __tablename__ = "assembly"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    above: Mapped[int | None] = mapped_column(ForeignKey("assembly.id"), index=True)
    uses: Mapped[list[SqlUse]] = relationship(order_by=uses.c.id)
    below: Mapped[list["SqlAssembly"]] = relationship(order_by="SqlAssembly.id")

    def __init__(self, number: int, parts: list[Any], below: list[Any]) -> None:
        self.number, self.below = number, below
        self.uses = [SqlUse(part=part) for part in parts]

    @property
    def parts(self) -> list[Any]:
        return [use.part for use in self.uses]


class SqlComposite(Base):
    __tablename__ = "composite"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    date: Mapped[int]
    document_id: Mapped[int] = mapped_column(ForeignKey("document.id"))
    root_id: Mapped[int | None] = mapped_column(ForeignKey("atomic.id", use_alter=True))
    document: Mapped["SqlDocument"] = relationship()
    root: Mapped["SqlAtomic"] = relationship(foreign_keys=[root_id], post_update=True)
    atomics: Mapped[list["SqlAtomic"]] = relationship(foreign_keys="SqlAtomic.part_of", order_by="SqlAtomic.id")


class SqlDocument(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String)
    text: Mapped[str] = mapped_column(String)


class SqlAtomic(Base):
    __tablename__ = "atomic"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(index=True)
    date: Mapped[int] = mapped_column(index=True)
    x: Mapped[int]
    y: Mapped[int]
    part_of: Mapped[int | None] = mapped_column(ForeignKey("composite.id"), index=True)
    to: Mapped[list["SqlConnection"]] = relationship(foreign_keys="SqlConnection.from_id", order_by="SqlConnection.id")


class SqlConnection(Base):
    __tablename__ = "connection"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    length: Mapped[int]
    from_id: Mapped[int | None] = mapped_column(ForeignKey("atomic.id"), index=True)
    to_id: Mapped[int | None] = mapped_column(ForeignKey("atomic.id"))
    to: Mapped["SqlAtomic"] = relationship(foreign_keys=[to_id])


class SqlAlchemy:
    name = "SQLAlchemy"

    def __init__(self, path: Path) -> None:
        self.engine = create_engine(f"sqlite:///{path / 'data.sqlite'}")

        @event.listens_for(self.engine, "connect")
        def tune(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    def build(self) -> None:
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as s:
            root, _ = build(Made(SqlAssembly, SqlComposite, SqlDocument, SqlAtomic, SqlConnection))
            s.add(root)
            s.commit()

    def begin(self) -> None:
        self.s = Session(self.engine, expire_on_commit=False)

    def end(self) -> None:
        self.s.close()

    def root(self) -> Any:
        return self.s.scalars(select(SqlAssembly).where(SqlAssembly.number == 1)).one()

    def keys(self) -> list[Any]:
        return list(self.s.scalars(select(SqlAtomic.id).order_by(SqlAtomic.number)))

    def lookup(self, key: Any) -> Any:
        return self.s.get(SqlAtomic, key)

    def range(self, lo: int, hi: int) -> Iterator[Any]:
        return iter(self.s.scalars(select(SqlAtomic).where(SqlAtomic.date.between(lo, hi))))

    def commit(self) -> None:
        self.s.commit()

    def close(self) -> None:
        self.engine.dispose()
