"""Fuzz the codec: bytes that nobody wrote give a value or CodecError, and what is a value keeps the codec's promises.

Good bytes are changed at random; the seed is printed. With `--sanitize` it is libFuzzer that changes them, led by what
ran in the codec, which gcc compiles for this with AddressSanitizer. What fails is kept in the corpus directory, and is
tried again by `--input FILE`.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import os
import random
import shlex
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SEEDS = ROOT / "tests" / "formats"
EXTENSION = "pykesto.codec._codec"
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address -fsanitize-coverage=trace-pc,trace-cmp"


class Broken(Exception):
    """The codec did not keep a promise."""


# What is tried


def examine(data: bytes) -> None:
    """Try bytes in each way; the first says in which. Raises Broken, or what should never have been raised."""
    if data:
        TRIALS[data[0] % len(TRIALS)](data[1:])


def try_value(data: bytes) -> None:
    value = codec.decode(data)
    written = codec.encode(value)
    # Sets have no order: the same bytes in another one.
    require(sorted(codec.encode(codec.decode(written))) == sorted(written), "a value changes when it is stored again")
    if codec.is_scalar_encoding(data):
        require(0 not in written, "a scalar has a zero byte")
        if not has_nan(value):
            low, high = codec.range_of(value)
            require(low <= written < high, "a scalar is not in its own range")
            require(codec.encode_key(codec.decode_key(low)) == low, "a key changes when it is stored again")
    codec.family(data)


def try_references(data: bytes) -> None:
    codec.encode(codec.decode(data, reference=codec.Reference))


def try_key(data: bytes) -> None:
    value = codec.decode_key(data)
    if not has_nan(value):
        key = codec.encode_key(value)
        require(codec.encode_key(codec.decode_key(key)) == key, "a key changes when it is stored again")


def try_row(data: bytes) -> None:
    columns = codec.parse_columns(data)
    for name, value in columns.items():
        require(codec.find_column(data, name) is not None, "a column is not found")
        require(len(value) < len(data), "a column is longer than its row")
    written = codec.encode_row(codec.decode_row(data))
    require(sorted(codec.encode_row(codec.decode_row(written))) == sorted(written), "a row changes when it is stored")


def try_numbers(data: bytes) -> None:
    """Numbers made of the bytes are in order, whatever their types, and come back."""
    found = sorted(numbers(data))
    keys = [codec.encode_key(number) for number in found]
    require(keys == sorted(keys), "keys are not in the order of their numbers")
    for number, other, key, following in zip(found, found[1:], keys, keys[1:], strict=False):
        require((number == other) == (key == following), "equal numbers are not one key")
    for number in found:
        for value in (number, (number, "a"), [number]):
            back = codec.decode(codec.encode(value))
            require((type(back), repr(back)) == (type(value), repr(value)), "a number changes when it is stored")


def has_nan(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(has_nan, value))
    if isinstance(value, codec.Unknown):
        return has_nan(value.value)
    return (isinstance(value, float) and value != value) or (isinstance(value, Decimal) and value.is_nan())


def numbers(data: bytes) -> list[Any]:
    """Of each nine bytes: a float, an int, a Decimal or a Fraction."""
    found: list[Any] = []
    for at in range(0, min(len(data), 90) - 8, 9):
        kind, whole, real = (
            data[at] % 4,
            *struct.unpack_from("<q", data, at + 1),
            *struct.unpack_from("<d", data, at + 1),
        )
        if kind == 0 and abs(real) < float("inf"):
            found += [real, Fraction(real), Decimal(real)]
        elif kind == 1:
            found += [whole, whole >> 40, whole * whole]
        elif kind == 2:
            decimal = Decimal(whole >> (data[at] >> 2) % 60).scaleb(-(data[at] >> 3))
            found += [decimal, Fraction(decimal), float(decimal)]
        else:
            found.append(Fraction(whole >> 32, (whole & 0xFFFFFFFF) + 1))
    return found


TRIALS = (try_value, try_references, try_key, try_row, try_numbers)


def require(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(promise)


def guarded(data: bytes) -> None:
    try:
        examine(data)
    except CodecError:
        return


# Where bytes come from


def seeds() -> list[bytes]:
    """Good bytes: those that must be readable for ever, once for each trial."""
    found = []
    for path in sorted(SEEDS.glob("codec_*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            block = bytes.fromhex(line.split(" ", 2)[1])
            found += [bytes([trial]) + block for trial in range(len(TRIALS)) if len(block) < 2000]
    return found


# Sizes, containers, and what ends or escapes.
TELLING = (b"\xff\x7f", b"\xff\xff\xff\x7f", b"\xf1", b"\xd7", b"\xca", b"\x01", b"\x02")


def changed(chance: random.Random, known: Sequence[bytes]) -> bytes:
    """Some of the known bytes with some changes."""
    block = bytearray(chance.choice(known))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(block) + 1)
        match chance.randrange(6):
            case 0:
                block[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del block[at : at + chance.randint(1, 4)]
            case 2:
                block[at:at] = chance.randbytes(chance.randint(1, 4))
            case 3:
                other = chance.choice(known)
                block[at:] = other[chance.randrange(len(other)) :]
            case 4:
                block[at:at] = chance.choice(
                    (b"\xff\x7f", b"\xff\xff\xff\x7f", b"\xf1", b"\xd7", b"\xca", b"\x01", b"\x02")
                )
            case _:
                block[at : at + 1] = bytes([block[at] ^ 1 << chance.randrange(8)]) if at < len(block) else b"\0"
    return bytes(block)


def change_at_random(seed: int, tries: int) -> None:
    chance, known = random.Random(seed), seeds()
    for _ in range(tries):
        block = changed(chance, known)
        try:
            guarded(block)
        except Exception as error:
            error.add_note(f"seed {seed}, bytes {block.hex()}")
            raise


# libFuzzer


def compile_codec(directory: Path) -> Path:
    """The codec's extension with AddressSanitizer, as gcc makes it."""
    from Cython.Build import cythonize

    source = "pykesto/codec/_codec.pyx"
    directives = {"language_level": 3, "auto_pickle": False, "autotestdict": False}
    cythonize([source], build_dir=str(directory), compiler_directives=directives, quiet=True)
    built = directory / ("_codec" + sysconfig.get_config_var("EXT_SUFFIX"))
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    made = (directory / source).with_suffix(".o")
    flags = [*FLAGS.split(), "-include", str(ROOT / "stress" / "coverage.h"), "-I", sysconfig.get_path("include")]
    subprocess.run([*compiler, "-c", "-fPIC", *flags, "-o", made, made.with_suffix(".c")], check=True, cwd=ROOT)
    # Without the sanitizer's library: that of atheris is there when it is loaded.
    subprocess.run([*compiler, "-shared", "-o", built, made], check=True, cwd=ROOT)
    return built


class Instead:
    """Finds the codec's extension in another file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> Any:
        if name != EXTENSION:
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, self.path)
        return importlib.util.spec_from_file_location(name, self.path, loader=loader)


def run_atheris(options: argparse.Namespace) -> int:
    """libFuzzer, in a process of its own: AddressSanitizer is loaded before all else."""
    with tempfile.TemporaryDirectory(prefix="pykesto-fuzz.") as scratch:
        start = Path(scratch) / "seeds"
        start.mkdir()
        for number, block in enumerate(seeds()):
            (start / str(number)).write_bytes(block)
        options.corpus.mkdir(parents=True, exist_ok=True)
        limits = [
            f"-max_total_time={max(1, int(options.seconds))}",
            "-max_len=4096",
            "-timeout=10",
            "-rss_limit_mb=2048",
        ]
        places = [f"-artifact_prefix={options.corpus}/", str(options.corpus), str(start)]
        command = [sys.executable, "-m", "stress.fuzz_codec", "--fuzzing", "-print_final_stats=1", *limits, *places]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if options.sanitize:
            environment |= sanitized(Path(scratch))
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def sanitized(directory: Path) -> dict[str, str]:
    """What lets a process use the codec with AddressSanitizer."""
    import atheris

    return {
        "PYKESTO_FUZZED": str(compile_codec(directory)),
        "PYTHONMALLOC": "malloc",  # so that each block has its red zones
        "LD_PRELOAD": str(Path(atheris.__file__).parents[1] / "asan_with_fuzzer.so"),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    }


def fuzz() -> None:
    import atheris

    def one(data: bytes) -> None:
        guarded(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


def arguments(argv: list[str]) -> argparse.Namespace:
    about = (__doc__ or "").partition("\n\n")[2]
    parser = argparse.ArgumentParser(prog="python -m stress.fuzz_codec", description=about)
    add = parser.add_argument
    add("--seconds", type=float, default=10.0, metavar="S", help="how long (10)")
    add("--seed", type=int, default=None, metavar="N", help="of the changes at random")
    add("--atheris", action="store_true", help="let libFuzzer choose; needs atheris")
    add("--sanitize", action="store_true", help="and with AddressSanitizer; needs Cython and gcc too")
    add("--corpus", type=Path, default=Path("fuzz_corpus"), metavar="DIR", help="what libFuzzer found (./fuzz_corpus)")
    add("--input", type=Path, metavar="FILE", help="try one file again")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    if options.input is not None:
        guarded(options.input.read_bytes())
        return 0
    if options.atheris or options.sanitize:
        return run_atheris(options)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        print(f"seed {seed}", flush=True)
        change_at_random(seed, tries=20_000)
        seed += 1
    return 0


if "PYKESTO_FUZZED" in os.environ:
    sys.meta_path.insert(0, Instead(os.environ["PYKESTO_FUZZED"]))

from pykesto import codec  # noqa: E402 - after the place of its extension is known
from pykesto.errors import CodecError  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1:2] == ["--fuzzing"]:
        fuzz()
    else:
        sys.exit(main(sys.argv[1:]))
