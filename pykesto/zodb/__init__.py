"""A ZODB storage on pykesto: an object database of ZODB, opened by any number of processes, without a server.

    pip install pykesto[zodb]

    from ZODB import DB
    from pykesto.zodb import KestoStorage

    db = DB(KestoStorage("app.kesto"))

docs/zodb.md tells what it has and what it leaves out.
"""

from .storage import KestoStorage

__all__ = ["KestoStorage"]
