"""A small file system of its own for the database, which can be filled up. It needs the rights to mount one."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

SIZE_MB = 512


class Disk:
    """Where the database lies; `limited` if that is a file system of `SIZE_MB` which `fill` fills."""

    def __init__(self, directory: Path, *, wanted: bool) -> None:
        self.directory, self.limited, self.why_not = directory, False, ""
        self._relieve_at = 0.0
        if wanted:
            self._mount(directory / "disk")
        self.balloon = self.directory / "balloon"

    def _mount(self, place: Path) -> None:
        if os.geteuid() != 0:
            self.why_not = "only root may mount a small file system"
            return
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "pykesto-stress", str(place)]
        with suppress(OSError):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                self.directory, self.limited = place, True
                return
            self.why_not = done.stderr.strip()

    def fill(self, seconds: float) -> None:
        """Leave no free page, for a while."""
        block = bytes(1 << 20)
        with self.balloon.open("ab", buffering=0) as file, suppress(OSError):
            for size in (len(block), 4096):
                with suppress(OSError):
                    while file.write(block[:size]) == size:
                        pass
        self._relieve_at = time.monotonic() + seconds

    def relieve_in_time(self) -> None:
        if self._relieve_at and time.monotonic() >= self._relieve_at:
            self.relieve()

    def relieve(self) -> None:
        self._relieve_at = 0.0
        self.balloon.unlink(missing_ok=True)

    def close(self) -> None:
        """Copy what is there to beside it, and unmount. What was asked to be kept is then on the real disk."""
        if self.limited:
            self.relieve()
            kept = self.directory.with_name("db.kesto")
            if (self.directory / "db.kesto").exists():
                subprocess.run(["cp", "-r", str(self.directory / "db.kesto"), str(kept)], check=False)
            subprocess.run(["umount", "-l", str(self.directory)], check=False, capture_output=True)
            with suppress(OSError):
                self.directory.rmdir()
            self.limited = False
