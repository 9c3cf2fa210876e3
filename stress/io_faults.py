"""Failing system calls: the library of `io_faults.c`, compiled when a run begins, and what it is told.

Where there is no C compiler, the faults that need it are left out, and the run says so.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SYNCS = "STRESS_SYNCS"
# What disks and systems say no with. A failed sync is a fault of its own.
FAILURES = {
    "write": [errno.EIO, errno.ENOSPC, errno.EINTR, errno.EDQUOT],
    "read": [errno.EIO, errno.EINTR],
    "open": [errno.EMFILE, errno.ENFILE, errno.EIO],
    "truncate": [errno.EIO, errno.ENOSPC],
    "map": [errno.ENOMEM],
}


def compiler() -> str | None:
    """The C compiler, where libraries for LD_PRELOAD can be made and used."""
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return found if sys.platform == "linux" else None


def compile_library(source: str, target: Path) -> None:
    """Make a library of a C file that lies beside this one."""
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-o", str(target), str(Path(__file__).with_name(source))]
    subprocess.run([*command, "-ldl"], check=True, capture_output=True)


class Library:
    """The compiled library, and the environment that has a process load it."""

    def __init__(self, directory: Path, database: Path) -> None:
        self.path = directory / "io_faults.so"
        self.database = database
        self.usable = compiler() is not None
        if self.usable:
            compile_library("io_faults.c", self.path)
            self.syncs = directory / "syncs"
            self.syncs.write_bytes(bytes(4096))

    def environment(self, rules: list[str], seed: int) -> dict[str, str]:
        if not self.usable:
            return {}
        return {
            "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {self.path}".strip(),  # a sanitizer comes first
            "STRESS_IO": ",".join(rules),
            "STRESS_PATH": f"{self.database}/",
            "STRESS_SEED": str(seed),
            SYNCS: str(self.syncs),
        }


def failing_calls(chance: random.Random) -> list[str]:
    """One or two calls that fail now and then, and some that do less than asked."""
    rules = ["write:0.01:short", "read:0.01:short"]
    for call in chance.sample(sorted(FAILURES), chance.randint(1, 2)):
        rules.append(f"{call}:{10 ** chance.uniform(-3, -1.3):.5f}:{chance.choice(FAILURES[call])}")
    return rules


class SyncCount:
    """How many syncs of the journal all processes have begun, as the library counts them."""

    def __init__(self) -> None:
        self._page: mmap.mmap | None = None
        if path := os.environ.get(SYNCS):
            with open(path, "rb") as file:
                self._page = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)

    def now(self) -> int | None:
        """None: nobody counts."""
        return None if self._page is None else int(struct.unpack_from("<q", self._page)[0])
