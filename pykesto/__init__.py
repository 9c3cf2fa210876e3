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
from .objects import (
    Blob,
    Generic,
    Persistent,
    PersistentCounter,
    PersistentDict,
    PersistentList,
    PersistentSet,
    Unset,
    field,
    is_loaded,
    on,
    persistent,
    state_of,
    upgrade,
    url_of,
)
from .objects import ObjectSession as Session
from .query import Query, agg, col
from .rows import Row, Table

__all__ = [
    "Blob",
    "ClosedError",
    "CodecError",
    "CommitUnknown",
    "ConcurrencyConflict",
    "Conflict",
    "CorruptionError",
    "Database",
    "Error",
    "FormatError",
    "Generic",
    "KeyExists",
    "LockTimeout",
    "MultipleResultsFound",
    "NoResultFound",
    "Persistent",
    "PersistentCounter",
    "PersistentDict",
    "PersistentList",
    "PersistentSet",
    "Query",
    "ReadOnlyError",
    "Row",
    "Session",
    "SnapshotExpired",
    "StaleToken",
    "StorageError",
    "Table",
    "UniqueViolation",
    "Unset",
    "UsageError",
    "__version__",
    "agg",
    "col",
    "field",
    "is_loaded",
    "on",
    "open",
    "persistent",
    "state_of",
    "temporary",
    "upgrade",
    "url_of",
]
