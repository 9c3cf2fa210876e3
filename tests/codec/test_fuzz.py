"""A short run of the program that fuzzes the codec; stress/fuzz_codec.py runs for as long as one likes."""

import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from pykesto import codec
from stress import fuzz_codec

ROOT = Path(__file__).parents[2]


def test_changed_bytes_give_a_value_or_an_error():
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    fuzz_codec.change_at_random(seed, tries=3000)


def test_bytes_of_every_kind_are_tried():
    kinds = {block[0] for block in fuzz_codec.seeds()}
    assert kinds == set(range(len(fuzz_codec.TRIALS)))
    for block in fuzz_codec.seeds():
        fuzz_codec.guarded(block)


@pytest.mark.parametrize(
    ("name", "wrong", "block"),
    [
        ("encode", lambda value: codec.encode((value, 1)), bytes([0, *codec.encode([1])])),
        ("range_of", lambda value: (b"a", b"b"), bytes([0, *codec.encode(1)])),
        ("encode_key", lambda value: codec.encode(repr(value)), bytes([2, *codec.encode_key(12)])),
        ("find_column", lambda *args: None, bytes([3, *codec.encode_row({"a": 1})])),
        ("encode_key", lambda value: codec.encode_key(-value), bytes([4, *(b"\1" + b"\2" * 8) * 2])),
        ("decode", lambda data: Decimal(0), bytes([4, *b"\1" + b"\2" * 8])),
    ],
)
def test_what_breaks_a_promise_is_found(monkeypatch, name, wrong, block):
    fuzz_codec.guarded(block)
    monkeypatch.setattr(fuzz_codec, "codec", Planted(name, wrong))
    with pytest.raises(fuzz_codec.Broken):
        fuzz_codec.guarded(block)


class Planted:
    """The codec with one function replaced by a wrong one."""

    def __init__(self, name, function):
        setattr(self, name, function)

    def __getattr__(self, name):
        return getattr(codec, name)


def test_libfuzzer_finds_nothing_in_a_short_run(tmp_path):
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "stress.fuzz_codec", "--atheris", "--seconds", "1", "--corpus", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stat::number_of_executed_units" in done.stderr
