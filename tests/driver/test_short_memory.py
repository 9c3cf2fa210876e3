"""What the driver does where there is no memory: the library ends the process, the driver raises MemoryError.

Children of ours run short: a limit is put on what they may allocate, or each call of malloc by the driver and the
library is made to fail in turn.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pykesto import tc

MAPS = Path("/proc/self/maps")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="other systems don't limit what a process allocates"),
    pytest.mark.skipif(
        MAPS.exists() and any(name in MAPS.read_text() for name in ("libasan", "libtokyocabinet")),
        reason="the sanitizer's allocator ends the process; the shared library's malloc is its own",
    ),
]


def child(script: str, *arguments: str | Path, preload: Path | None = None) -> str:
    environment = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


LARGE = """
import resource, sys
from pathlib import Path
from pykesto import tc

def held():
    return int(Path("/proc/self/statm").read_text().split()[5]) * 4096  # data

table = tc.Table(sys.argv[1], sys.argv[2], cache_leaves=16)  # more would fill the memory that is left
query = table.query
small = [query.col("name").equals("name 7"), query.col("size").num_between(10, 19).order_by("size", numeric=True)]
for search in small:
    assert len(list(search)) == 10
large = [
    query, query.col("name").startswith("name"), query.col("size").num_ge(0), query.col("long").includes("x"),
    query.order_by("long"), query.col("text").any_word("to be"), query.col("text").fts("to || be"),
    query.col("part").fts_phrase("abc"), query.col("name").startswith("name") | query.col("size").num_ge(5),
    query.col("long").matches("^x"),
]
for search in large[: 1 if sys.argv[2] == "w" else 0]:
    search.first()
resource.setrlimit(resource.RLIMIT_DATA, (held() + (3 << 20),) * 2)
for turn in range(3):
    for search in large:
        try:
            search.count()
        except MemoryError as error:
            assert "let go" not in str(error), error
        else:
            raise AssertionError(search.hint)
    for search in small:
        assert len(list(search)) == 10
    if turn == 0:
        first = held()
assert held() <= first + (1 << 20), (first, held())  # half of it comes and goes; one result takes more than all
assert len(table) == 60_000
if sys.argv[2] == "w":
    table[b"1"] = {b"name": b"more"}
    assert list(query.col("name").equals("more")) == [b"1"]
table.close()
print("survived")
"""


def rows(count: int) -> dict[bytes, dict[bytes, bytes]]:
    return {
        b"key of row %d" % n: {
            b"name": b"name %d" % (n // 10), b"size": b"%d" % n, b"text": b"to be %d" % n, b"part": b"abcd",
            b"long": b"xy",
        }
        for n in range(count)
    }  # fmt: skip


@pytest.mark.parametrize("flag", ["r", "w"])
def test_a_search_whose_result_does_not_fit_leaves_the_table_as_it_was(path: Path, flag: str) -> None:
    with tc.Table(path, "n", bnum=100_000) as table:
        table.update(rows(60_000))
        for name, kind in (("name", "lexical"), ("size", "decimal"), ("text", "token"), ("part", "qgram")):
            table.create_index(name, kind)
    assert child(LARGE, path, flag) == "survived\n"


# --- Each malloc in turn --------------------------------------------------------------------------------------------

FAILING = r"""
#include <stddef.h>
#include <stdint.h>

extern void *__libc_malloc(size_t size), *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
static uintptr_t low, high;
static long left = -1, calls;

void fail_in(uintptr_t from, uintptr_t to) { low = from; high = to; }
void fail_after(long count) { left = count; calls = 0; }
long fail_calls(void) { return calls; }

static int fails(void *caller)
{
    return left >= 0 && (uintptr_t)caller >= low && (uintptr_t)caller < high && calls++ >= left;
}
#define FAILING __builtin_return_address(0)
void *malloc(size_t size) { return fails(FAILING) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return fails(FAILING) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return fails(FAILING) ? NULL : __libc_realloc(old, size); }
"""

EACH = """
import ctypes, os, shutil, sys, zlib
from pathlib import Path
from pykesto import tc

failing = ctypes.CDLL(None)
failing.fail_in.argtypes = [ctypes.c_size_t] * 2
failing.fail_after.argtypes, failing.fail_calls.restype = [ctypes.c_long], ctypes.c_long
ours = [line.split("-") for line in Path("/proc/self/maps").read_text().splitlines() if "/_tc." in line]
failing.fail_in(int(ours[0][0], 16), int(ours[-1][1].split()[0], 16))
options = {"plain": {}, "codec": {"codec": (zlib.compress, zlib.decompress)}, "deflate": {"deflate": True}}[sys.argv[2]]
original, used = Path(sys.argv[1], "original"), Path(sys.argv[1], "used")

def row(n):
    return {b"name": b"name %d" % (n % 10), b"size": b"%d" % n, b"text": b"to be %d" % n, b"part": b"abc%d" % n}

with tc.Table(original, "n", bnum=100, **options) as table:
    for name, kind in (("name", "lexical"), ("size", "decimal"), ("text", "token"), ("part", "qgram"), ("", "lexical")):
        table.create_index(name, kind)
    table.update({b"%d" % n: row(n) for n in range(40)})

reads = [
    lambda t: None,
    lambda t: (t[b"1"], t.get_column(b"1", b"name"), t.row_size(b"1"), sorted(t), sorted(t.keys_with_prefix(b"1"))),
    lambda t: t.query.col("name").equals("name 3").count(),
    lambda t: t.query.col("name").one_of(["name 1", "a, b"]).count(),
    lambda t: list(t.query.col("size").num_between(1, 30).order_by("text").limit(20)),
    lambda t: t.query.col("text").all_words("to be").count(),
    lambda t: (t.query.col("part").fts_phrase("abc").count(), t.query.col("text").matches("^to.*1").count()),
    lambda t: t.query.col("text").includes("be").kwic(row(1)),
    lambda t: (lambda c: (c.seek(b"name 1"), c.next_batch(9), c.seek_before(b"name 5")))(t.index_cursor(b"name")),
]
writes = [
    lambda t: (t.put(b"new", row(7)), t.putkeep(b"new2", row(7)), t.putcat(b"1", {b"more": b""})),
    lambda t: (t.add_int(b"sum"), t.query.col("name").equals("name 3").update({b"size": b"7"})),
    lambda t: (t.apply_raw([(b"2", t.get_raw(b"1")), (b"3", None)]), t.popitem()),
    lambda t: (t.begin(), t.put(b"new", row(3)), t.commit(), t.begin(), t.put(b"1", row(9)), t.abort()),
    lambda t: (t.put(b"new", row(8)), t.sync(), t.clear_caches(), t.defrag()),
    lambda t: (t.put(b"new", row(8)), t.query.col("text").all_words("to be").count()),
    lambda t: (t.create_index("more"), t.create_index("name", "token"), t.drop_index("part")),
    lambda t: t.optimize(),
    lambda t: t.optimize_index("name"),
    lambda t: t.vanish(),
]

def ended(flag, operation, count):
    "Whether the operation got by with so many calls of malloc; those that read leave the table as it was."
    opening, reading = operation is reads[0], operation in reads[1:]
    expected = answers.get(operation)
    failing.fail_after(count if opening else -1)
    table, lost = None, False
    try:
        table = tc.Table(used, flag, cache_leaves=1, cache_nodes=1, **options)
        if flag == "w" and reading:
            table.update({b"%d" % n: row(n) for n in range(0, 40, 3)})  # pages that are yet to be written
        if not opening:
            failing.fail_after(count)
        found = operation(table)
    except MemoryError as error:
        done, lost = False, "let go" in str(error)
    else:
        done = True
        answers.setdefault(operation, found)
        assert not reading or found == answers[operation]
    got_by = failing.fail_calls() <= count
    failing.fail_after(-1)
    assert done or not got_by
    if reading and not lost and not done:
        assert operation(table) == expected
    assert not (lost and flag == "r")
    if table is not None:
        try:
            table.close()
        except (MemoryError, tc.Error):  # as it said before
            assert not reading or lost
    if reading and not lost:
        assert tc.verify(used, codec=options.get("codec")) == []
    return done and got_by

def whole(flag, operation):
    "The table opens again, in this process."
    if operation is not writes[-1]:  # killed while it drops everything, a table is damaged
        with tc.Table(used, flag, **options) as table:
            rows = sum(1 for _ in table.items())
            assert flag == "w" or rows == 40 and table.query.col("name").equals("name 3").count() == 4

turns, answers = 0, {}
for operation in reads[1:]:  # what they find, first
    with tc.Table(original, **options) as table:
        answers[operation] = operation(table)
for flag, operations in (("r", reads), ("w", reads + writes)):
    for operation in operations:
        count = 0
        while True:
            for path in original.parent.glob("used*"):
                path.unlink()
            for path in original.parent.glob("original*"):
                shutil.copy(path, str(path).replace("original", "used"))
            if ended(flag, operation, count):
                break
            whole(flag, operation)
            turns += 1
            count += 1 if count < 12 else count // 4
print(turns)
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("a C compiler and glibc are needed to make malloc fail")
    directory = tmp_path_factory.mktemp("failing")
    (directory / "failing.c").write_text(FAILING)
    built = directory / "failing.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, directory / "failing.c"], check=True)
    return built


@pytest.mark.parametrize("kind", ["plain", "codec", "deflate"])
def test_each_malloc_that_fails_is_an_error(tmp_path: Path, failing: Path, kind: str) -> None:
    assert int(child(EACH, tmp_path, kind, preload=failing)) > 300
