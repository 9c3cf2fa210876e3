"""What a journal record of the engine holds: one commit. The bytes are specified in docs/journal.md."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import CorruptionError, UsageError
from ..store import KEY_BYTES_MAX, SchemaChange

IMAGE_BYTES_MAX = (1 << 31) - (1 << 20)  # what Tokyo Cabinet can store in a C int, less its own

_U32 = struct.Struct("<I")
_ROW = struct.Struct("<II")
_DELETED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Commit:
    """The changes of one commit: table -> key -> new image, or None for a deletion; and who made it."""

    rows: dict[str, dict[bytes, bytes | None]]
    schema: tuple[SchemaChange, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


def pack_commit(commit: Commit) -> bytes:
    """The payload; UsageError, before anything is written, if a key or a row is too large."""
    about = json.dumps({"about": commit.about, "schema": [asdict(change) for change in commit.schema]}).encode()
    parts = [_U32.pack(len(about)), about, _U32.pack(len(commit.rows))]
    for table, rows in commit.rows.items():
        name = table.encode()
        parts += (_ROW.pack(len(name), len(rows)), name)
        for key, image in rows.items():
            if len(key) > KEY_BYTES_MAX:
                raise UsageError(f"a key of {table} takes {len(key)} bytes; at most {KEY_BYTES_MAX} can be stored")
            if image is None:
                parts += (_ROW.pack(len(key), _DELETED), key)
            elif len(image) > IMAGE_BYTES_MAX:
                raise UsageError(f"a row of {table} takes {len(image)} bytes; at most {IMAGE_BYTES_MAX} can be stored")
            else:
                parts += (_ROW.pack(len(key), len(image)), key, image)
    return b"".join(parts)


def unpack_commit(payload: bytes) -> Commit:
    """The commit in a payload whose checksum was verified."""
    try:
        return _unpack(payload)
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"a record of the journal holds no commit: {error}") from error


def _unpack(payload: bytes) -> Commit:
    size = _U32.unpack_from(payload)[0]
    heading = json.loads(payload[4 : 4 + size])
    at = 4 + size
    rows: dict[str, dict[bytes, bytes | None]] = {}
    (tables,) = _U32.unpack_from(payload, at)
    at += 4
    for _ in range(tables):
        name_size, count = _ROW.unpack_from(payload, at)
        at += 8 + name_size
        table = rows.setdefault(payload[at - name_size : at].decode(), {})
        for _ in range(count):
            key_size, image_size = _ROW.unpack_from(payload, at)
            at += 8 + key_size
            key = payload[at - key_size : at]
            if image_size == _DELETED:
                table[key] = None
            else:
                table[key] = payload[at : at + image_size]
                at += image_size
    if at != len(payload):
        raise ValueError(f"{len(payload) - at} bytes are left over")
    return Commit(rows, tuple(map(SchemaChange.from_json, heading["schema"])), heading["about"])
