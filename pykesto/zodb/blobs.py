"""Blobs: files of their own in a directory beside the database, laid out as ZODB does.

A file is in place, and synced, before its transaction commits, and goes if that does not; one whose transaction died
is removed by the next pack.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ZODB.blob import FilesystemHelper, remove_committed, rename_or_copy_blob
from ZODB.POSException import POSKeyError
from ZODB.utils import cp

from ..files import sync_directory, sync_file
from .records import p64, u64


class Blobs:
    """The directory of blobs; instances share it."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.files = FilesystemHelper(os.path.abspath(directory), "automatic")
        self.files.create()

    @property
    def temporary(self) -> str:
        return str(self.files.temp_dir)

    def path(self, oid: bytes, tid: bytes) -> str:
        return str(self.files.getBlobFilename(oid, tid))

    def load(self, oid: bytes, tid: bytes) -> str:
        """The file of a blob; POSKeyError if there is none."""
        path = self.path(oid, tid)
        if not os.path.exists(path):
            raise POSKeyError(f"No blob file at {path}", oid, tid)
        return path

    def take(self, path: str) -> str:
        """Have a file that somebody hands over, under a name of ours."""
        fd, taken = tempfile.mkstemp(dir=self.temporary, prefix="stored-")
        os.close(fd)
        rename_or_copy_blob(path, taken, chmod=False)
        return taken

    def place(self, oid: int, tid: int, taken: str) -> str:
        """Put a file to where a transaction's blob belongs, durably."""
        target = self.path(p64(oid), p64(tid))
        self.files.getPathForOID(p64(oid), create=True)
        sync_file(Path(taken))
        rename_or_copy_blob(taken, target)
        folder = Path(target).parent
        while folder != Path(self.files.base_dir).parent:
            sync_directory(folder)
            folder = folder.parent
        return target

    def copy(self, oid: int, tid: int) -> str | None:
        """A copy of a blob, for an undo that writes it again; None if it has none."""
        path = self.path(p64(oid), p64(tid))
        if not os.path.exists(path):
            return None
        fd, taken = tempfile.mkstemp(dir=self.temporary, prefix="undone-")
        with open(path, "rb") as source, os.fdopen(fd, "wb") as target:
            cp(source, target)
        return taken

    def remove(self, path: str) -> None:
        if os.path.exists(path):
            remove_committed(path)

    def pack(self, is_kept: Callable[[int, int], bool]) -> None:
        """Remove the files of revisions that are not kept. With the lock of commits, so none is being placed."""
        for oid, folder in list(self.files.listOIDs()):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                _, tid = self.files.splitBlobFilename(path)
                if tid is not None and not is_kept(u64(oid), u64(tid)):
                    remove_committed(path)
            if not os.listdir(folder):
                os.rmdir(folder)
