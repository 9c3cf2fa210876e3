"""Every operation of the driver, failing ones too, a million times: what the process holds in memory must stay flat.

    python -m stress.driver_memory
    python -m stress.driver_memory --count 10000 --only get query

For each operation the growth is shown of its resident memory (without the pages of files, which come and go), of what
malloc has given out, and of the number of Python's objects. Operations that take milliseconds are done less often.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pykesto import tc
from pykesto.errors import StorageError, UsageError

ALLOWED_BYTES = 1 << 20  # of growth, in a whole run of one operation
KEYS = [b"key %d" % number for number in range(200)]
ROW = {b"name": b"Ann", b"size": b"41", b"text": b"to be or not", b"part": b"abcdefgh", b"long": b"x" * 300}

Operation = Callable[[int], object]


class _Malloc(ctypes.Structure):
    names = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]
    _fields_ = [(name, ctypes.c_size_t) for name in names]


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds: bytes that are resident, bytes from malloc, objects from Python's own allocator."""

    resident: int
    allocated: int
    objects: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        status = Path("/proc/self/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        return cls(int(found[1]) * 1024 if found else 0, _allocated(), sys.getallocatedblocks())

    def __sub__(self, other: Held) -> Held:
        return Held(self.resident - other.resident, self.allocated - other.allocated, self.objects - other.objects)


def _allocated() -> int:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # glibc before 2.33, musl
        return 0
    libc.mallinfo2.restype = _Malloc
    told = libc.mallinfo2()
    return int(told.uordblks + told.hblkhd)


def failing(kind: type[Exception], call: Operation) -> Operation:
    """The operation fails each time, as it should."""

    def failed(number: int) -> None:
        try:
            call(number)
        except kind:
            return
        raise AssertionError(f"{call} did not raise {kind.__name__}")

    return failed


def row(number: int) -> dict[bytes, bytes]:
    return ROW | {b"name": b"name %d" % (number % 20), b"size": b"%d" % (number % 200)}


def filled(path: Path) -> tc.Table:
    table = tc.Table(path, "n", bnum=500)
    table.create_index("name")
    table.create_index("size", "decimal")
    table.create_index("text", "token")
    table.create_index("part", "qgram")
    for number, key in enumerate(KEYS):
        table[key] = row(number)
    return table


def rows(table: tc.Table, plain: tc.Table) -> dict[str, Operation]:
    """On rows: with indexes, and on a table without."""

    def key(number: int) -> bytes:
        return KEYS[number % len(KEYS)]

    def put_and_delete(number: int) -> None:
        table[b"new"] = ROW | {b"name": b"name %d" % (number % 1000)}
        del table[b"new"]

    raw = table.get_raw(KEYS[0])
    assert raw is not None
    plain[b"text"] = {b"_num": b"none"}
    return {
        "put": lambda n: plain.__setitem__(key(n), ROW),
        "put indexed": lambda n: table.__setitem__(key(n), row(n % 200) | {b"long": b"x" * (n % 300)}),
        "put raw": lambda n: plain.put_raw(key(n), raw),
        "put and delete": put_and_delete,
        "putkeep": lambda n: table.putkeep(key(n), ROW),
        "putcat": lambda n: table.putcat(key(n), ROW),
        "putproc": lambda n: table.putproc(key(n), dict),
        "add_int, add_double": lambda n: (plain.add_int(b"i"), plain.add_double(b"d", 0.5)),
        "ids": lambda n: plain.new_id(),
        "one column": lambda n: (table.get_column(key(n), b"name"), table.get_column(b"nobody", b"name")),
        "row_size": lambda n: table.row_size(key(n)),
        "opaque, info": lambda n: (setattr(plain, "opaque", b"x"), plain.opaque, plain.info(), repr(plain), plain.size),
        "apply raw": lambda n: plain.apply_raw([(key(n), raw), (b"gone", None)]),
        "get": lambda n: table[key(n)],
        "get raw": lambda n: table.get_raw(key(n)),
        "get what isn't there": lambda n: table.get(b"nobody"),
        "in, len": lambda n: (key(n) in table, len(table)),
        "setdefault, pop": lambda n: (table.setdefault(b"new", ROW), table.pop(b"new")),
        "failing get": failing(TypeError, lambda n: table["text"]),  # type: ignore[index]
        "failing putproc": failing(ZeroDivisionError, lambda n: table.putproc(key(n), lambda row: 1 / 0)),  # type: ignore[arg-type,return-value]
        "failing add_int": failing(UsageError, lambda n: plain.add_int(b"text")),
        "failing row_size": failing(KeyError, lambda n: table.row_size(b"nobody")),
        "failing lookup": failing(KeyError, lambda n: table[b"nobody"]),
        "failing delete": failing(KeyError, lambda n: table.__delitem__(b"nobody")),
        "failing put: a value": failing(TypeError, lambda n: table.__setitem__(b"k", {b"a": b"1", b"b": 2})),  # type: ignore[dict-item]
        "failing put: a name": failing(UsageError, lambda n: table.__setitem__(b"k", {b"a": b"1", b"": b"2"})),
        "failing put: the key": failing(UsageError, lambda n: table.__setitem__(b"", ROW)),
        "failing put: an index": failing(UsageError, lambda n: table.__setitem__(b"k", ROW | {b"name": b""})),
        "failing put raw": failing(UsageError, lambda n: table.put_raw(b"k", b"\x05ab")),
        "failing apply raw": failing(UsageError, lambda n: table.apply_raw([(b"k", raw), (b"k", b"\x05ab")])),
    }


def walks(table: tc.Table) -> dict[str, Operation]:
    def changed(number: int) -> None:
        for _ in table.raw_batches(10):
            table[KEYS[0]] = row(0)

    def both_ways(number: int) -> None:
        cursor = table.index_cursor(b"name")
        if cursor.seek(b"name 1"):
            cursor.next_batch(20)
        if cursor.seek_before(b"name 5"):
            cursor.prev_batch(20)

    return {
        "keys (200)": lambda n: sum(1 for _ in table),
        "items (200)": lambda n: sum(1 for _ in table.items()),
        "raw batches (200)": lambda n: sum(1 for _ in table.raw_batches(50)),
        "an iteration that is left": lambda n: next(iter(table.items())),
        "an iteration that is disturbed": failing(RuntimeError, changed),
        "keys from, by prefix": lambda n: (next(table.keys_from(KEYS[n % 200])), table.keys_with_prefix(b"key 1", 5)),
        "foreach": lambda n: table.foreach(lambda key, row: n % 2 == 0 or False),
        "failing foreach": failing(UsageError, lambda n: table.foreach(lambda key, row: bool(table[key]))),
        "cursor": both_ways,
        "failing cursor": failing(UsageError, lambda n: table.index_cursor(b"nothing")),
    }


def queries(table: tc.Table) -> dict[str, Operation]:
    query = table.query

    def delete(number: int) -> None:
        table[b"new"] = ROW | {b"name": b"to delete"}
        assert query.col("name").equals("to delete").delete() == 1

    return {
        "query: equals (10)": lambda n: list(query.col("name").equals(f"name {n % 20}").rows()),
        "query: startswith (110)": lambda n: list(query.col("name").startswith("name 1")),
        "query: range in order (20)": lambda n: list(
            query.col("size").num_between(10, 29).order_by("size", numeric=True)
        ),
        "query: scan (200)": lambda n: query.col("long").includes("xy").count(),
        "query: negated, limited": lambda n: list(query.col("name").equals("x", negate=True).limit(5, 2).items()),
        "query: lists, words": lambda n: (
            query.col("name").one_of(["name 1", "a, b"]).count(),
            query.col("text").fts("to && be").count(),
            query.col("part").includes("cdef").count(),
            query.col("size").num_one_of([1, 2]).count(),
            query.col("long").matches("^x+$").limit(3).count(),
        ),
        "query: sets, columns": lambda n: (
            list((query.col("name").equals("name 1") | query.col("size").num_lt(5)).order_by("size").columns("size")),
            list(query.col("name").equals("name 1") - query.col("size").num_lt(50)),
        ),
        "query: update, process": lambda n: (
            query.col("name").equals("name 7").update({b"size": b"7"}),
            query.col("name").equals("name 7").process(lambda key, row: None),
        ),
        "query: kwic": lambda n: query.col("text").includes("or").kwic(ROW, mark="bracket"),
        "failing process": failing(
            ZeroDivisionError,
            lambda n: query.col("name").equals("name 7").process(lambda key, row: 1 / 0),  # type: ignore[arg-type,return-value]
        ),
        "query: first, hint": lambda n: (query.col("name").equals("name 3").first(), query.hint),
        "query: delete": delete,
        "failing query": failing(UsageError, lambda n: query.col("name").equals("a\0b")),
        "failing number": failing(UsageError, lambda n: query.col("size").num_equals("1e3")),
    }


def transactions(table: tc.Table) -> dict[str, Operation]:
    def commit(number: int) -> None:
        with table.transaction():
            table[KEYS[number % len(KEYS)]] = row(number % 200)

    def abort(number: int) -> None:
        table.begin()
        table[b"new"] = ROW
        table.abort()

    def nested(number: int) -> None:
        with table.transaction(), table.transaction():
            pass

    return {
        "commit": commit,
        "abort": abort,
        "failing begin": failing(UsageError, nested),
        "failing commit": failing(UsageError, lambda n: table.commit()),
        "failing upkeep": failing(UsageError, lambda n: table.drop_index("nothing")),
    }


def upkeep(table: tc.Table, directory: Path) -> dict[str, Operation]:
    gone = tc.Table(directory / "gone", "n", bnum=10)
    table.copy(directory / "verified")

    def copy(number: int) -> None:
        table.copy(directory / "copy")
        for file in directory.glob("copy*"):
            file.unlink()

    def index(number: int) -> None:
        table.create_index("more", "token")
        table.drop_index("more")

    return {
        "sync": lambda n: table.sync(),
        "defrag, clear caches": lambda n: (table.defrag(10), table.clear_caches()),
        "vanish": lambda n: (gone.__setitem__(b"k", ROW), gone.vanish()),
        "verify": lambda n: tc.verify(directory / "verified"),
        "failing verify": failing(UsageError, lambda n: tc.verify(table.path)),
        "copy": copy,
        "create and drop an index": index,
        "optimize an index": lambda n: table.optimize_index("name"),
        "optimize": lambda n: table.optimize(500),
    }


def files(table: tc.Table, directory: Path) -> dict[str, Operation]:
    """Opening and closing, of files that are sound and not."""
    table.copy(directory / "other")
    other, damaged, foreign = directory / "other", directory / "damaged", directory / "foreign"
    content = bytearray(other.read_bytes())
    heads = [at for at in range(0, len(content), 16) if content[at] == 0xC8]
    for at in heads:
        content[at + 2 : at + 18] = b"\xff" * 16
    damaged.write_bytes(content)
    foreign.write_bytes(b"no table at all " * 100)
    opened = tc.Table(damaged)
    closed = tc.Table(directory / "closed", "n")
    closed.close()

    def forgotten(number: int) -> None:
        tc.Table(other, "w")[b"new"] = ROW  # closed by its end

    return {
        "open and read": lambda n: tc.Table(other).close(),
        "open and write": lambda n: tc.Table(other, "w").close(),
        "open and forget": forgotten,
        "failing open: missing": failing(StorageError, lambda n: tc.Table(directory / "missing")),
        "failing open: foreign": failing(StorageError, lambda n: tc.Table(foreign)),
        "failing open: twice": failing(UsageError, lambda n: tc.Table(table.path)),
        "failing open: an argument": failing(UsageError, lambda n: tc.Table(other, "x")),  # type: ignore[arg-type]
        "reading damage": lambda n: damage(opened, n),
        "use after close": failing(UsageError, lambda n: closed[b"k"]),
    }


def damage(table: tc.Table, number: int) -> None:
    with suppress(StorageError):
        table.get(KEYS[number % len(KEYS)])
    with suppress(StorageError):
        list(table.query.col("long").includes("x"))


def codecs(directory: Path) -> dict[str, Operation]:
    """Records that are packed, by the library and by functions of ours, which may raise."""
    packed = {
        name: tc.Table(directory / name, "n", bnum=100, **{name: True})  # type: ignore[arg-type]
        for name in ("deflate", "bzip", "tcbs")
    }
    packed["codec"] = tc.Table(directory / "codec", "n", bnum=100, codec=(zlib.compress, zlib.decompress))

    def refuse(data: bytes) -> bytes:
        if data.endswith(b"refused"):
            raise LookupError
        return data

    broken = tc.Table(directory / "broken", "n", bnum=100, codec=(bytes, refuse))
    broken[b"k"] = {b"a": b"refused"}
    return {
        f"{name}: put, get, walk": lambda n, table=table: (
            table.__setitem__(b"k", ROW),
            table[b"k"],
            list(table.items()),
        )  # type: ignore[misc]
        for name, table in packed.items()
    } | {"failing codec": failing(LookupError, lambda n: broken.get(b"k"))}


# How many times less often than the rest: they take so many times as long.
SELDOM = {"upkeep": 1000, "files": 20, "walks": 20, "queries": 20, "transactions": 20, "codecs": 20}


def operations(directory: Path) -> Iterator[tuple[str, int, Operation]]:
    """Name, how many times less often, and what to do."""
    table, plain = filled(directory / "table"), tc.Table(directory / "plain", "n", bnum=500)
    groups = {
        "rows": rows(table, plain),
        "walks": walks(table),
        "queries": queries(table),
        "transactions": transactions(table),
        "upkeep": upkeep(table, directory),
        "files": files(table, directory),
        "codecs": codecs(directory),
    }
    for group, those in groups.items():
        for name, operation in those.items():
            yield name, SELDOM.get(group, 1), operation


def growth(operation: Operation, count: int) -> Held:
    """What the process holds more after `count` times; what is made once was made before."""
    for number in range(max(count // 10, 20)):
        operation(number)
    before = Held.now()
    for number in range(count):
        operation(number)
    return Held.now() - before


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stress.driver_memory", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=1_000_000, metavar="N", help="how often each is done (1000000)")
    add("--all", action="store_true", help="so often those too that take long")
    add("--only", nargs="+", metavar="TEXT", help="operations whose names hold this")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    leaking = []
    print(f"{'':<34}{'times':>10}{'seconds':>9}{'resident':>12}{'malloc':>12}{'objects':>9}")
    with tempfile.TemporaryDirectory(prefix="pykesto-memory.") as directory:
        for name, seldom, operation in operations(Path(directory)):
            if options.only and not any(text in name for text in options.only):
                continue
            count = max(options.count // (1 if options.all else seldom), 1)
            began = time.monotonic()
            grown = growth(operation, count)
            took = time.monotonic() - began
            print(f"{name:<34}{count:>10,}{took:>9.1f}{grown.resident:>12,}{grown.allocated:>12,}{grown.objects:>9,}")
            sys.stdout.flush()
            if max(grown.resident, grown.allocated) > ALLOWED_BYTES:
                leaking.append(name)
    print(f"grown by more than {ALLOWED_BYTES:,} bytes: {', '.join(leaking) or 'none'}; process {os.getpid()}")
    return 1 if leaking else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
