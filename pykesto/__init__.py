"""pykesto: a schemaless, transactional, concurrent object database, embedded in Python.

import pykesto

class Person(pykesto.Persistent):
    name: str

db = pykesto.open("app.kesto")
with db.transaction() as s:
    s.add(Person(name="Ann"))
"""

from ._version import __version__
from .database import Database, open, temporary
from .errors import (
    ClosedError,
    CodecError,
    CommitUnknown,
    ConcurrencyConflict,
    Conflict,
    CorruptionError,
    Error,
    FormatError,
    KeyExists,
    LockTimeout,
    MultipleResultsFound,
    NoResultFound,
    ReadOnlyError,
    SnapshotExpired,
    StaleToken,
    StorageError,
    UniqueViolation,
    UsageError,
)
from .objects import ObjectSession as Session
from .objects import Persistent, field
from .query import Query, agg, col
from .rows import Row, Table

__all__ = [
    "ClosedError",
    "CodecError",
    "CommitUnknown",
    "ConcurrencyConflict",
    "Conflict",
    "CorruptionError",
    "Database",
    "Error",
    "FormatError",
    "KeyExists",
    "LockTimeout",
    "MultipleResultsFound",
    "NoResultFound",
    "Persistent",
    "Query",
    "ReadOnlyError",
    "Row",
    "Session",
    "SnapshotExpired",
    "StaleToken",
    "StorageError",
    "Table",
    "UniqueViolation",
    "UsageError",
    "__version__",
    "agg",
    "col",
    "field",
    "open",
    "temporary",
]
