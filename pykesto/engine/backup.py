"""Copy a database while it is in use: a base that nobody changes, and an empty journal that goes on from its mark."""

from __future__ import annotations

import secrets
from pathlib import Path

from ..errors import CorruptionError, StorageError, UsageError
from ..journal import Segments, create
from .attachments import Attachment
from .base import BaseBuilder
from .layout import Layout
from .manifest import Manifest, create_manifest, read_manifest, read_stamp

_TRIES = 10


def backup(attachment: Attachment, path: Path, wait_s: float | None) -> int:
    """Make a database in the new or empty directory `path` that holds all commits up to now; return its version.

    Readers and commits go on meanwhile; checkpoints wait. The copy is whole when this returns, and no database before.
    """
    store = attachment.store
    target = Layout(path)
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"can't back up to {path}: it is not empty", hint="give a new directory")
    wanted = store.view.version()
    for _ in range(_TRIES):
        attachment.checkpoint(wait_s)
        with store.checkpointing(wait_s):
            manifest = read_manifest(store.layout)
            if manifest is None:
                raise CorruptionError("MANIFEST is gone", path=store.layout.manifest)
            stamp = read_stamp(store.layout, manifest.current)
            if stamp.mark.version < wanted:
                continue  # the checkpoint was given up, for a fork perhaps, or could not be
            target.create(store.mode)
            builder = BaseBuilder(target, 0, mode=store.mode, stopping=lambda: False)
            builder.begin()
            builder.copy_from(store.layout.base(manifest.current))
            break
    else:
        raise StorageError(f"no base of {store.layout.directory} could be brought to version {wanted}", path=path)
    mark = stamp.mark
    create(
        Segments(target.journal, mode=store.mode),
        start=mark.position,
        previous_crc=mark.crc,
        generation=store.state.generation + 1,
    )
    copied = builder.finish(mark, stamp.tables)
    identity = secrets.token_hex(16)
    create_manifest(target, Manifest(identity, 0, {0: (copied.life, copied.mark)}), mode=store.mode)
    return mark.version
