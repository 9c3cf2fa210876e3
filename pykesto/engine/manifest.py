"""MANIFEST, which names the current base, and STAMP, by which a base vouches for itself.

MANIFEST has two slots that are written in turn and never renamed over. STAMP is removed, and that synced, before the
first write to a base, and written last: a base without the stamp that MANIFEST names is never trusted, whatever its
files look like. Both are JSON behind a checksum, so that a person can read them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import CorruptionError, FormatError, StorageError
from ..failpoints import ACTIVE, off
from ..files import crc32c, create_whole, open_file, read_at, remove, sync_directory, translated, write_at
from ..store import IndexDefinition
from .layout import Layout

FORMAT = 2
_SLOT_SIZE = 16 << 10


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the journal: `position`, and the number and checksum of the record that ends there."""

    version: int = 0
    position: int = 0
    crc: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a base holds: everything up to `mark`, in these tables with these indexes.

    `life` differs each time that a base is written, so that no two states of a base have the same stamp.
    """

    mark: Mark
    life: str
    tables: dict[str, tuple[IndexDefinition, ...]] = field(default_factory=dict)

    def pack(self) -> bytes:
        tables = {name: [asdict(index) for index in indexes] for name, indexes in self.tables.items()}
        return _sealed({"format": FORMAT, "life": self.life, "mark": asdict(self.mark), "tables": tables})

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Stamp:
        fields = _opened(content, path)
        tables = {name: tuple(map(IndexDefinition.from_json, indexes)) for name, indexes in fields["tables"].items()}
        return cls(Mark(**fields["mark"]), fields["life"], tables)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The current base, and for each base that may be trusted the life its stamp must name, and its mark."""

    identity: str
    current: int
    bases: dict[int, tuple[str, Mark]]
    sequence: int = 0

    def mark(self, base: int) -> Mark:
        return self.bases[base][1]

    def pack(self) -> bytes:
        bases = {str(b): {"life": life, "mark": asdict(mark)} for b, (life, mark) in self.bases.items()}
        return _sealed(
            {
                "format": FORMAT,
                "identity": self.identity,
                "sequence": self.sequence,
                "current": self.current,
                "bases": bases,
            }
        )

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Manifest:
        fields = _opened(content, path)
        bases = {int(b): (entry["life"], Mark(**entry["mark"])) for b, entry in fields["bases"].items()}
        return cls(fields["identity"], fields["current"], bases, fields["sequence"])

    def with_base(self, base: int, stamp: Stamp) -> Manifest:
        """`base` is whole at the stamp's mark, and current."""
        return replace(self, current=base, bases=self.bases | {base: (stamp.life, stamp.mark)})

    def without_base(self, base: int) -> Manifest:
        return replace(self, bases={b: entry for b, entry in self.bases.items() if b != base})


def _sealed(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, sort_keys=True).encode()
    return b"%08x %08x %s\n" % (crc32c(text), len(text), text)


def _opened(content: bytes, path: Path) -> dict[str, Any]:
    """The fields behind the checksum; CorruptionError, or FormatError for another format's."""
    try:
        checksum, size = int(content[:8], 16), int(content[9:17], 16)
    except ValueError as error:
        raise CorruptionError("the checksum is no number", path=path, offset=0) from error
    text = content[18 : 18 + size]
    if len(text) != size or crc32c(text) != checksum:
        raise CorruptionError("the checksum does not match", path=path, offset=0)
    fields: dict[str, Any] = json.loads(text)
    found = fields.get("format")
    if found != FORMAT:
        older = isinstance(found, int) and found < FORMAT
        hint = "it is from before the first release: read it with what made it" if older else "use a newer pykesto"
        raise FormatError(f"{path} has format {found}, not {FORMAT}", path=path, hint=hint)
    return fields


def read_manifest(layout: Layout) -> Manifest | None:
    """The newest valid slot, or None if there is no MANIFEST yet."""
    try:
        fd = open_file(layout.manifest, write=False)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        with translated("read", layout.manifest):
            slots = [read_at(fd, _SLOT_SIZE, i * _SLOT_SIZE) for i in range(2)]
    finally:
        os.close(fd)
    found = _valid(slots, layout.manifest)
    if not found:
        raise CorruptionError("neither slot is valid", path=layout.manifest, offset=0)
    return max(found.values(), key=lambda manifest: manifest.sequence)


def _valid(slots: list[bytes], path: Path) -> dict[int, Manifest]:
    found = {}
    for i, content in enumerate(slots):
        try:
            found[i] = Manifest.parse(content, path)
        except CorruptionError:
            continue  # a slot that was being written when the power went; the other one holds
    return found


def create_manifest(layout: Layout, manifest: Manifest, *, mode: int) -> None:
    """The last step of creating a database."""
    slot = manifest.pack().ljust(_SLOT_SIZE, b"\n")
    create_whole(layout.manifest, slot * 2, mode=mode)


def write_manifest(layout: Layout, manifest: Manifest, *, poison: Callable[[int], None]) -> Manifest:
    """Replace the manifest durably; the caller holds checkpoint.lock. A failed sync poisons.

    The newest valid slot is written again first: what was read from it may be in the page cache only.
    """
    content = replace(manifest, sequence=manifest.sequence + 1).pack()
    if len(content) > _SLOT_SIZE:
        raise StorageError(f"the manifest would take {len(content)} bytes of {_SLOT_SIZE}", path=layout.manifest)
    fd = open_file(layout.manifest)
    try:
        with translated("write", layout.manifest):
            slots = [read_at(fd, _SLOT_SIZE, i * _SLOT_SIZE) for i in range(2)]
            valid = _valid(slots, layout.manifest)
            newest = max(valid, key=lambda i: valid[i].sequence)
            for slot, text in ((newest, slots[newest]), (1 - newest, content), (newest, content)):
                write_at(fd, text.ljust(_SLOT_SIZE, b"\n"), slot * _SLOT_SIZE)
                if not (ACTIVE and off("manifest.sync")):
                    os.fdatasync(fd)
    except StorageError as error:
        poison(error.errno or 0)
        raise
    finally:
        os.close(fd)
    return replace(manifest, sequence=manifest.sequence + 1)


def read_stamp(layout: Layout, base: int) -> Stamp:
    """The stamp of a base; CorruptionError if there is none."""
    path = layout.stamp(base)
    try:
        fd = open_file(path, write=False)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CorruptionError(
                "the base has no stamp: it was being written, or copied while in use", path=path
            ) from error
        raise
    try:
        with translated("read", path):
            content = read_at(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    return Stamp.parse(content, path)


def write_stamp(layout: Layout, base: int, stamp: Stamp, *, mode: int) -> None:
    create_whole(layout.stamp(base), stamp.pack(), mode=mode)


def remove_stamp(layout: Layout, base: int) -> None:
    """From here on nobody trusts the base."""
    if ACTIVE and off("stamp.remove"):
        return
    remove(layout.stamp(base))
    sync_directory(layout.base(base))
