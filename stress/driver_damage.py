"""Damaged tables, opened, read and written by the driver in processes of their own, with a time limit.

Each case takes a sound table, with indexes of all kinds or a transaction cut short, and does one kind of harm to one
of its files: bits flipped in a header, in buckets, in records, pages zeroed or exchanged, the end cut off, a foreign
file put in its place. The driver may refuse it, raise an error, or give wrong data where nothing shows that they are
wrong. It may not kill its process, hang, or raise anything but its own errors. A seed and a number make a case again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pykesto import tc
from pykesto.errors import StorageError, UsageError

MEMORY_BYTES = 1 << 30  # that a process may allocate
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")  # which needs terabytes of addresses, and has a limit itself
HEADER, PAGE = 256, 4096
BAD = ("killed", "hung", "foreign error")
KINDS = {"name": "lexical", "size": "decimal", "text": "token", "part": "qgram"}

Row = dict[bytes, bytes]


# --- Sound tables --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Original:
    """A table as it was before the harm, and what is in it."""

    name: str
    directory: Path
    rows: dict[bytes, Row]

    def files(self) -> list[Path]:
        return sorted(self.directory.iterdir())


def row_of(number: int, chance: random.Random) -> Row:
    words = [b"to", b"be", b"or", b"not", b"that", b"is", b"the", b"question"]
    row = {
        b"name": b"name %d" % (number // 3),
        b"size": b"%d" % chance.randrange(1000),
        b"text": b" ".join(chance.choices(words, k=4)),
        b"part": bytes(chance.choices(b"abcdef", k=8)),
    }
    if number % 5 == 0:
        row[b"long"] = b"x" * chance.choice([0, 300, 3000])
    return row


def make(name: str, directory: Path, *, count: int, indexed: bool, **options: object) -> Original:
    """A table that has been in use: some rows were deleted, some grew."""
    chance = random.Random(name)
    directory.mkdir()
    rows: dict[bytes, Row] = {}
    with tc.Table(directory / "table", "n", **options) as table:  # type: ignore[arg-type]
        for column, kind in KINDS.items() if indexed else ():
            table.create_index(column, kind)  # type: ignore[arg-type]
        for number in range(count):
            rows[b"key %d" % number] = table[b"key %d" % number] = row_of(number, chance)
        for key in chance.sample(sorted(rows), count // 5):
            del table[key], rows[key]
        for key in chance.sample(sorted(rows), count // 10):
            rows[key] = table[key] = rows[key] | {b"more": b"y" * chance.randrange(200)}
    return Original(name, directory, rows)


def originals(directory: Path) -> list[Original]:
    made = [
        make("plain", directory / "plain", count=300, indexed=False, bnum=50),
        make("indexed", directory / "indexed", count=400, indexed=True, bnum=200),
        make("small offsets", directory / "offsets", count=300, indexed=True, bnum=100, large=False, apow=0),
        make("compressed", directory / "compressed", count=200, indexed=True, bnum=100, deflate=True),
        make("tcbs", directory / "tcbs", count=30, indexed=True, bnum=100, tcbs=True),
        make("bzip", directory / "bzip", count=100, indexed=False, bnum=100, bzip=True),
        make("long", directory / "long", count=1500, indexed=True, bnum=2000),
    ]
    return [*made, killed(made[1], directory / "killed")]


def killed(sound: Original, directory: Path) -> Original:
    """The table as a process leaves it that is killed in a transaction: with logs, and marked open."""
    shutil.copytree(sound.directory, directory)
    child = os.fork()
    if child == 0:
        table = tc.Table(directory / "table", "w")
        table.begin()
        for number in range(100):
            table[b"lost %d" % number] = row_of(number, random.Random(number))
        os._exit(0)
    os.waitpid(child, 0)
    return Original("killed", directory, sound.rows)


# --- Harm ----------------------------------------------------------------------------------------------------------


def flip(content: bytearray, chance: random.Random, low: int, high: int) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        content[chance.randrange(low, high)] ^= 1 << chance.randrange(8)


def flip_header(content: bytearray, chance: random.Random) -> None:
    flip(content, chance, 0, min(len(content), HEADER))


def flip_numbers(content: bytearray, chance: random.Random) -> None:
    """The header's numbers, and those of an index, set to what programs trip over."""
    at = chance.choice([*range(32, 37), 40, 48, 56, 64, 128, 136, 140, 144, 152, 160, 168, 176, 184])
    size = 1 if at < 40 else chance.choice([1, 4, 8])
    content[at : at + size] = chance.choice([b"\0", b"\xff", b"\x7f", b"\x80", b"\1"]) * size


def first_row(content: bytearray) -> int:
    at = int.from_bytes(content[64:72], "big"), int.from_bytes(content[64:72], "little")
    return min(max(min(at), HEADER + 1), len(content) - 1)


def flip_buckets(content: bytearray, chance: random.Random) -> None:
    flip(content, chance, HEADER, first_row(content))


def redirect_bucket(content: bytearray, chance: random.Random) -> None:
    """Let a bucket point to some other place in the file, or where another does."""
    end = first_row(content)
    place, other = (HEADER + 8 * chance.randrange((end - HEADER) // 8) for _ in range(2))
    content[place : place + 8] = chance.choice(
        [content[other : other + 8], (chance.randrange(len(content)) >> 4).to_bytes(8, "big")]
    )


def flip_records(content: bytearray, chance: random.Random) -> None:
    flip(content, chance, first_row(content), len(content))


def record_heads(content: bytearray) -> list[int]:
    """Where records seem to begin."""
    start = first_row(content)
    return [at for at in range(start - start % 16, len(content) - 32, 16) if content[at] == 0xC8] or [start]


def harm_head(content: bytearray, chance: random.Random) -> None:
    """One byte near the beginning of a record: its neighbours in the tree, its sizes, its padding."""
    at = chance.choice(record_heads(content)) + chance.randrange(24)
    content[min(at, len(content) - 1)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])


def tie_a_knot(content: bytearray, chance: random.Random) -> None:
    """Let a record be the child of itself, or of another."""
    heads = record_heads(content)
    at, target = chance.choice(heads), chance.choice(heads)
    if chance.random() < 0.5:
        target = at
    side = chance.choice([2, 10])
    content[at + side : at + side + 8] = (target >> 4).to_bytes(8, "big")


def harm_page(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(0, len(content), PAGE)
    size = min(PAGE, len(content) - at)
    other = chance.randrange(0, len(content), PAGE)
    page = chance.choice([bytes(size), b"\xff" * size, chance.randbytes(size), bytes(content[other : other + size])])
    content[at : at + len(page)] = page


def cut(content: bytearray, chance: random.Random) -> None:
    heads = record_heads(content)
    places = [chance.randrange(len(content)), chance.randrange(HEADER + 1), chance.choice(heads)]
    places += [len(content) - chance.randrange(1, 64), len(content) // PAGE * PAGE]
    del content[chance.choice(places) :]


def append(content: bytearray, chance: random.Random) -> None:
    content += chance.choice([bytes(PAGE), chance.randbytes(PAGE), content[-PAGE:]])


def replace(content: bytearray, chance: random.Random) -> None:
    foreign = [b"", b"\0", b"hello\n" * 100, bytes(100_000), chance.randbytes(10_000), bytes(content[:HEADER])]
    content[:] = chance.choice(foreign)


HARMS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "bits of the header": flip_header,
    "numbers of the header": flip_numbers,
    "bits of buckets and pool": flip_buckets,
    "a bucket's target": redirect_bucket,
    "bits of records": flip_records,
    "heads of records": harm_head,
    "circles of records": tie_a_knot,
    "pages": harm_page,
    "end cut off": cut,
    "bytes appended": append,
    "foreign content": replace,
}


def harm(original: Original, directory: Path, chance: random.Random) -> tuple[str, str]:
    """Copy a table and damage one of its files; which, and how."""
    shutil.copytree(original.directory, directory, dirs_exist_ok=True)
    files = sorted(directory.iterdir())
    logs = [file for file in files if file.suffix == ".wal"]
    table = directory / "table"
    file = table if chance.random() < 0.4 else chance.choice(logs if logs and chance.random() < 0.5 else files)
    content = bytearray(file.read_bytes())
    if file in logs:
        name = chance.choice(["bits of the header", "end cut off", "bytes appended", "foreign content", "pages"])
        if name == "bits of the header":
            flip(content, chance, 0, len(content))
        else:
            HARMS[name](content, chance)
        name = "log of a transaction"
    else:
        name = chance.choice(list(HARMS))
        HARMS[name](content, chance)
    file.write_bytes(content)
    return file.name, name


# --- Use -----------------------------------------------------------------------------------------------------------

Step = Callable[[tc.Table], object]


def reads(original: Original) -> Iterator[tuple[str, Step, object]]:
    """What is read, and what a sound table answers."""
    rows = original.rows
    keys = sorted(rows)

    def where(column: bytes, test: Callable[[bytes], bool]) -> list[bytes]:
        return sorted(key for key, row in rows.items() if column in row and test(row[column]))

    yield "len", len, len(rows)
    yield "items", lambda t: dict(t.items()), rows
    yield "get", lambda t: {key: t.get(key) for key in keys}, rows
    yield "get_raw", lambda t: sum(t.get_raw(key) is not None for key in keys), len(keys)
    yield "in", lambda t: b"no such key" in t, False
    yield "keys", lambda t: sorted(t), keys
    yield "foreach", lambda t: t.foreach(lambda key, row: None), None
    yield "prefix", lambda t: sorted(t.keys_with_prefix(b"key 1")), [key for key in keys if key.startswith(b"key 1")]
    yield "from", lambda t: len(set(t.keys_from(keys[0]))) <= len(keys), True
    yield "column", lambda t: [t.get_column(key, b"name") for key in keys], [rows[key][b"name"] for key in keys]
    yield "row_size", lambda t: all(t.row_size(key) > 0 for key in keys), True
    yield "equals", lambda t: sorted(t.query.col("name").equals("name 7")), where(b"name", b"name 7".__eq__)
    begins = where(b"name", lambda value: value.startswith(b"name 1"))
    yield "startswith", lambda t: sorted(t.query.col("name").startswith("name 1")), begins
    some = where(b"size", lambda value: 100 <= int(value) <= 300)
    yield "between", lambda t: sorted(t.query.col("size").num_between(100, 300)), some
    yield "order", lambda t: sorted(t.query.order_by("size", numeric=True)), keys
    yield "order down", lambda t: sorted(t.query.order_by("name", descending=True)), keys
    words = where(b"text", lambda value: b"question" in value)
    yield "includes", lambda t: sorted(t.query.col("text").includes("question")), words
    both = [key for key in some if key in words]
    yield (
        "sets",
        lambda t: sorted(t.query.col("size").num_between(100, 300) & t.query.col("text").any_word("question")),
        both,
    )
    yield "scan", lambda t: sorted(t.query.col("long").startswith("x")), where(b"long", lambda v: v.startswith(b"x"))
    yield "rows", lambda t: len(list(t.query.col("size").num_ge(0).rows())), len(keys)


def walk(table: tc.Table) -> None:
    """An index from one end to the other, and back."""
    if b"name" in table.indexes():
        cursor = table.index_cursor(b"name")
        for seek, batch in ((cursor.seek_first, cursor.next_batch), (cursor.seek_last, cursor.prev_batch)):
            if seek():
                while batch(100):
                    pass


def abort(table: tc.Table) -> None:
    table.begin()
    table[b"aborted"] = {b"name": b"x"}
    table.abort()


def writes(original: Original) -> Iterator[tuple[str, Step]]:
    keys = sorted(original.rows)

    def put(table: tc.Table) -> None:
        for key in keys[::3]:
            table[key] = {b"name": b"new", b"size": b"5", b"text": b"to be", b"part": b"abcdef", b"long": b"z" * 500}

    def delete(table: tc.Table) -> None:
        for key in keys[1::7]:
            table.pop(key, None)

    yield "put", put
    yield "abort", abort
    yield "delete", delete
    yield "add", lambda t: t.update((b"new %d" % n, row_of(n, random.Random(n))) for n in range(200))
    yield "add columns", lambda t: [t.putcat(key, {b"cat": b"x" * 100}) for key in keys[::5]]
    yield "update", lambda t: t.query.col("size").num_ge(500).update({b"size": b"1", b"text": None})
    yield "popitem", lambda t: [t.popitem() for _ in range(20)]
    yield "ids", lambda t: [t.new_id(), t.add_int(b"count"), t.clear_caches()]
    yield "query.delete", lambda t: t.query.col("name").equals("name 9").delete()
    yield "create_index", lambda t: t.create_index("long", "token")
    yield "optimize_index", lambda t: [t.optimize_index(name) for name in t.indexes()]
    yield "defrag", lambda t: t.defrag()
    yield "sync", lambda t: t.sync()
    yield "optimize", lambda t: t.optimize()
    yield "clear", lambda t: t.clear()
    yield "vanish", lambda t: t.vanish()


def read(path: Path, original: Original) -> str:
    """Read all in every way; what came of it."""
    with suppress(StorageError):
        tc.verify(path)
    try:
        table = tc.Table(path)
    except StorageError:
        return "refused at open"
    failed = wrong = False
    with table:
        for _, step, expected in reads(original):
            try:
                wrong |= step(table) != expected
            except KeyError:  # a row that can't be found any more
                wrong = True
            except StorageError:
                failed = True
        try:
            walk(table)
        except StorageError:
            failed = True
    return "error" if failed else "wrong data" if wrong else "unharmed"


def write(path: Path, original: Original) -> str:
    """Change it in every way, each from the state before the harm on: an error ends a table's writes."""
    failed = False
    for _, step in writes(original):
        try:
            with tc.Table(path, "w") as table, suppress(KeyError):
                step(table)
        except StorageError:
            failed = True
    return "error" if failed else "no error"


def apart(work: Callable[[Path, Original], str], path: Path, original: Original, limit_s: float) -> tuple[str, str]:
    """Do it in a process of its own: what it says, or how it ended, and details."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not SANITIZED:
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        try:
            said = work(path, original)
        except UsageError as error:  # a bit that says that there was a codec
            codec = "made with a codec" in str(error)
            said = ("refused at open" if work is read else "error") if codec else f"foreign error\n{error!r}"
        except BaseException:  # noqa: BLE001  whatever it is, it is told
            said = "foreign error\n" + traceback.format_exc()
        os.write(tell, said.encode()[:60_000])
        os._exit(0)
    os.close(tell)
    ready, _, _ = select.select([hear], [], [], limit_s)
    said = os.read(hear, 1 << 16).decode() if ready else ""
    os.close(hear)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    outcome, _, details = said.partition("\n")
    if not ready:
        return "hung", ""
    return (outcome, details) if said else ("killed", f"status {os.waitstatus_to_exitcode(status)}")


# --- The program ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    table: str
    file: str
    harm: str
    reading: str
    writing: str
    details: str


def try_one(number: int, seed: int, sound: list[Original], limit_s: float, keep: Path | None) -> Case:
    chance = random.Random(f"{seed} {number}")
    original = sound[number % len(sound)]
    with directory_of(keep) as directory:
        file, how = harm(original, directory, chance)
        results = []
        for work in (read, write):
            copied = directory / work.__name__
            shutil.copytree(directory, copied, ignore=shutil.ignore_patterns("read", "write"))
            results.append(apart(work, copied / "table", original, limit_s))
    (reading, details), (writing, more) = results
    return Case(number, original.name, file, how, reading, writing, details + more)


@contextmanager
def directory_of(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="pykesto-damage.") as directory:
        yield Path(directory)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stress.driver_damage", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=2000, metavar="N", help="how many damaged tables (2000)")
    add("--seed", type=int, help="of all of them (a random one)")
    add("--case", type=int, metavar="N", help="only this one of them")
    add("--keep", type=Path, help="a new directory for the files of that case, which stay there")
    add("--limit", type=float, default=60.0, metavar="S", help="seconds until a process counts as hung (60)")
    add("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def table_of(cases: list[Case]) -> str:
    """Outcomes by harm, as Markdown."""
    columns = ["refused at open", "error", "wrong data", "unharmed", "killed", "hung", "foreign error"]
    lines = [f"| harm | cases | {' | '.join(columns)} |", "| --- " * (len(columns) + 2) + "|"]
    for name in [*HARMS, "log of a transaction", None]:
        those = [case for case in cases if name in (case.harm, None)]
        counts = Counter(case.reading for case in those)
        counts.update(case.writing for case in those if case.writing in BAD)
        title = name or "all"
        lines.append(f"| {title} | {len(those)} | " + " | ".join(str(counts[column]) for column in columns) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    numbers = range(options.count) if options.case is None else [options.case]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pykesto-damage.") as directory:
        sound = originals(Path(directory))
        cases = [try_one(number, seed, sound, options.limit, options.keep) for number in numbers]
    bad = [case for case in cases if case.reading in BAD or case.writing in BAD]
    if options.json:
        counts = {work: Counter(getattr(case, work) for case in cases) for work in ("reading", "writing")}
        print(json.dumps({"seed": seed, "cases": len(cases), "bad": [str(case) for case in bad], **counts}))
    else:
        print(f"seed {seed}, {len(cases)} cases, {time.monotonic() - began:.0f} s\n\n{table_of(cases)}")
        for case in bad:
            print(
                f"case {case.number}: {case.table}, {case.file}, {case.harm}: read {case.reading}, write {case.writing}"
            )
            print(case.details)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
