"""Tokyo Cabinet's table database, usable alone: files of rows, each a key and columns, all bytes.

    >>> from pykesto import tc
    >>> with tc.Table("people.tct", "n") as t:
    ...     t.create_index("age", "decimal")
    ...     t[b"ann"] = {b"name": b"Ann", b"age": b"41"}
    ...     t[b"bob"] = {b"name": b"Bob", b"age": b"29"}
    ...     list(t.query.col("age").num_gt(30))
    [b'ann']

Everything is in `Table`; `Table.query` gives a `Query`, `Table.index_cursor` an `IndexCursor`, and `IndexPages` reads
an index of a table that nobody writes. `verify` walks through the files of a table. `Error` carries Tokyo Cabinet's
code and message; mistakes of the caller are `pykesto.errors.UsageError`. `VERSION` is the library's. The guide is
docs/driver.md.
"""

from pykesto._tc import (
    REMOVE,
    STOP,
    VERSION,
    Combination,
    Error,
    IndexCursor,
    IndexPages,
    Info,
    Query,
    QueryColumn,
    Table,
    Transaction,
    verify,
)

__all__ = [
    "Combination",
    "Error",
    "IndexCursor",
    "IndexPages",
    "Info",
    "Query",
    "QueryColumn",
    "REMOVE",
    "STOP",
    "Table",
    "Transaction",
    "VERSION",
    "verify",
]
