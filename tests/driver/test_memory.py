"""No operation of the driver keeps memory, and none that fails does (`python -m stress.driver_memory`, in short)."""

import ctypes
import sys
from pathlib import Path

import pytest

from stress.driver_memory import Held, growth, operations

COUNT = 1000
SMALLEST_LEAK_BYTES = 16  # that malloc gives out
NOISE_BYTES = 4000


def leaks(grown: Held, count: int) -> bool:
    return grown.allocated >= max(SMALLEST_LEAK_BYTES * count, NOISE_BYTES) or grown.objects >= count


def test_nothing_is_kept(tmp_path: Path) -> None:
    kept = {}
    for name, seldom, operation in operations(tmp_path):
        count = max(COUNT // seldom, 20)
        # What grows once, as a cache does, stays as it is the next time.
        grown = [growth(operation, count)]
        while leaks(grown[-1], count) and len(grown) < 4:
            grown.append(growth(operation, count))
        if leaks(grown[-1], count):
            kept[name] = grown
    assert not kept


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc tells what malloc has given out")
def test_a_leak_is_seen() -> None:
    malloc = ctypes.CDLL(None).malloc
    assert leaks(growth(lambda number: malloc(8), COUNT), COUNT)
    kept: list[object] = []
    assert leaks(growth(lambda number: kept.append(object()), COUNT), COUNT)
    assert not leaks(growth(lambda number: sys.getsizeof(number), COUNT), COUNT)
