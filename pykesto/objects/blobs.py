"""Large binary values, read and written as streams, in transactions as everything else."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, Literal, cast

from ..errors import UsageError
from .containers import _Container
from .entries import GONE
from .registry import note_blob

CHUNK_BYTES = 64 << 10


class Blob(_Container, name="k.Blob", extent=False):
    """Bytes of any size. It goes when the last object that refers to it does, or lets go of it.

    Example:
        >>> import pykesto
        >>> class Photo(pykesto.Persistent):
        ...     image: pykesto.Blob
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     photo = s.add(Photo(image=pykesto.Blob(b"GIF89a...")))
        ...     with photo.image.open("ab") as f:
        ...         _ = f.write(b" and more")
        ...     with photo.image.open("rb") as f:
        ...         _ = f.seek(-4, 2)
        ...         f.read()
        b'more'
    """

    size: int = 0
    owners: int = 0

    def __init__(self, content: bytes = b"") -> None:
        super().__init__()
        note_blob()
        if content:
            self._change(lambda: self._write_all(content))

    def _write_all(self, content: bytes) -> None:
        with self.open("wb") as f:
            f.write(content)

    def open(self, mode: Literal["rb", "wb", "ab", "r+b"] = "rb") -> BinaryIO:
        """A buffered binary stream; what is written is in the session when it is flushed or closed."""
        if mode not in ("rb", "wb", "ab", "r+b"):
            raise UsageError(f"mode is {mode!r}; it must be one of 'rb', 'wb', 'ab', 'r+b'")
        raw = _Stream(self, mode)
        buffered: Any = {"rb": io.BufferedReader, "r+b": io.BufferedRandom}.get(mode, io.BufferedWriter)
        return cast(BinaryIO, buffered(raw, CHUNK_BYTES))

    def _chunk(self, number: int) -> bytes:
        found = self._entries.get(self._entries.key(self, number))
        return b"" if found is GONE else found

    def _put_chunk(self, number: int, content: bytes) -> None:
        self._entries.set(self._entries.key(self, number), content if content else GONE)

    def _resize(self, size: int) -> None:
        last = -(-size // CHUNK_BYTES)
        for number in range(last, -(-self.size // CHUNK_BYTES)):
            self._put_chunk(number, b"")
        if size < self.size and size % CHUNK_BYTES:
            self._put_chunk(last - 1, self._chunk(last - 1)[: size % CHUNK_BYTES])
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Make it empty."""
        self._resize(0)


class _Stream(io.RawIOBase):
    """A place in a blob."""

    def __init__(self, blob: Blob, mode: str) -> None:
        self._blob, self._mode = blob, mode
        if mode == "wb":
            blob._resize(0)
        self._pos = blob.size if mode == "ab" else 0

    def readable(self) -> bool:
        return self._mode in ("rb", "r+b")

    def writable(self) -> bool:
        return self._mode != "rb"

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._pos, io.SEEK_END: self._blob.size}[whence]
        self._pos = max(0, base + offset)
        return self._pos

    def readinto(self, buffer: Any, /) -> int:
        number, at = divmod(self._pos, CHUNK_BYTES)
        room = min(len(buffer), CHUNK_BYTES - at, max(0, self._blob.size - self._pos))
        if room <= 0:
            return 0
        content = self._blob._chunk(number)[at : at + room].ljust(room, b"\0")  # what was skipped is zeros
        buffer[:room] = content
        self._pos += room
        return room

    def write(self, content: Any, /) -> int:
        if self._mode == "ab":
            self._pos = self._blob.size
        number, at = divmod(self._pos, CHUNK_BYTES)
        part = bytes(content[: CHUNK_BYTES - at])
        chunk = self._blob._chunk(number).ljust(at, b"\0")
        self._blob._put_chunk(number, chunk[:at] + part + chunk[at + len(part) :])
        self._pos += len(part)
        if self._pos > self._blob.size:
            self._blob.size = self._pos
        return len(part)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._pos if size is None else size
        self._blob._resize(size)
        return size
