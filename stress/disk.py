"""A small file system of its own for the database, which can be filled up. It needs the rights to mount one."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

SIZE_BYTES = 512 << 20
STEPS = (64 << 20, 1 << 20, 4096)


class Disk:
    """Where the database lies; `limited` if that is a small file system, which `fill` fills.

    It is ext4 in a file, or memory where there is no such tool.
    """

    def __init__(self, directory: Path, *, wanted: bool) -> None:
        self.directory, self.limited, self.why_not = directory, False, ""
        self._relieve_at = 0.0
        if wanted and os.geteuid() == 0:
            self._mount(directory)
        elif wanted:
            self.why_not = "only root may mount a small file system"
        self.balloon = self.directory / "balloon"

    def _mount(self, directory: Path) -> None:
        place, self.image = directory / "disk", directory / "disk.img"
        place.mkdir()
        with self.image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        # No blocks are set aside for root, who could go on writing to a full disk.
        made = _done("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self.limited = (not made and not _done("mount", "-o", "loop", str(self.image), str(place))) or not (
            failed := _done("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "pykesto-stress", str(place))
        )
        if self.limited:
            self.directory = place
        else:
            self.why_not = failed

    def fill(self, seconds: float) -> None:
        """Leave no free block, for a while."""
        fd = os.open(self.balloon, os.O_RDWR | os.O_CREAT, 0o600)
        size = os.fstat(fd).st_size
        for step in STEPS:
            with suppress(OSError):
                while True:
                    os.posix_fallocate(fd, size, step)
                    size += step
        os.close(fd)
        self._relieve_at = time.monotonic() + seconds

    def relieve_in_time(self) -> None:
        if self._relieve_at and time.monotonic() >= self._relieve_at:
            self.relieve()

    def relieve(self) -> None:
        self._relieve_at = 0.0
        self.balloon.unlink(missing_ok=True)

    def close(self) -> None:
        """Copy the database to beside the file system, and unmount that."""
        if self.limited:
            self.relieve()
            if (self.directory / "db.kesto").exists():
                _done("cp", "-r", str(self.directory / "db.kesto"), str(self.directory.with_name("db.kesto")))
            _done("umount", "-l", str(self.directory))
            self.image.unlink()
            with suppress(OSError):
                self.directory.rmdir()
            self.limited = False


def _done(*command: str) -> str:
    """Why a command failed; "" if it did not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""
