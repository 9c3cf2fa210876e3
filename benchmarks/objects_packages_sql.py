"""The packages of `objects_packages` in SQLAlchemy on SQLite. Its annotations are evaluated, so they are no strings."""

from pathlib import Path
from typing import Any

from sqlalchemy import Column, ForeignKey, Table, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from .objects_packages import made, stored
from .objects_sql import SqlAlchemy


class Base(DeclarativeBase):
    pass


depends = Table(
    "depends",
    Base.metadata,
    Column("package", ForeignKey("package.id"), primary_key=True),
    Column("other", ForeignKey("package.id"), primary_key=True),
)


class SqlPackage(Base):
    __tablename__ = "package"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    section: Mapped[str]
    size: Mapped[int]
    summary: Mapped[str]
    depends: Mapped[list["SqlPackage"]] = relationship(
        secondary=depends, primaryjoin=id == depends.c.package, secondaryjoin=id == depends.c.other
    )


class SqlPackages(SqlAlchemy):
    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place

    def build(self) -> None:
        Base.metadata.create_all(self.engine)
        with Session(self.engine) as s:
            s.add_all(made(SqlPackage, stored(self.place)).values())
            s.commit()

    def find(self, name: str) -> Any:
        return self.s.scalars(select(SqlPackage).where(SqlPackage.name == name)).one()
