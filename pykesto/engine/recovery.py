"""What the first process to attach does, alone: find what is truly on disk, or make a new database.

It believes nothing in `control`, whatever the boot. It trusts a base by its stamp, finds the journal's true end from
that base's mark on, makes what it accepts durable, and only then publishes. May be killed at any point.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from ..errors import CorruptionError
from ..failpoints import ACTIVE, hit, off
from ..journal import JournalState, Recovered, Segments, create, is_empty, recover
from .base import BaseBuilder
from .control import Control
from .layout import Layout
from .manifest import Manifest, Mark, create_manifest, read_manifest, read_stamp, write_manifest


def recover_database(
    layout: Layout, control: Control, segments: Segments, state: JournalState, *, mode: int, create_missing: bool
) -> Recovered:
    """Recover, or create, and publish in `control` and `state`. The caller is attached alone.

    Raises:
        CorruptionError: there is data without MANIFEST, no base can be trusted, or the journal is damaged.
    """
    if ACTIVE:
        hit("recovery.begin")
    manifest = read_manifest(layout)
    if manifest is None:
        if not create_missing:
            raise CorruptionError("there is no MANIFEST", path=layout.manifest)
        manifest = _create(layout, segments, mode)
    base = _trusted_base(layout, manifest)
    mark = manifest.mark(base)
    recovered = recover(segments, position=mark.position, crc=mark.crc, number=mark.version)
    if base != manifest.current:
        changed = replace(manifest, current=base).without_base(manifest.current)
        write_manifest(layout, changed, poison=state.poison)
    if ACTIVE:
        hit("recovery.publish")
    reader = recovered.reader
    control.flip_to(base)
    state.begin(
        end=reader.position, segment=reader.segment.number, generation=recovered.generation, clean=recovered.clean
    )
    return recovered


def _create(layout: Layout, segments: Segments, mode: int) -> Manifest:
    """A new database. MANIFEST comes last: without it, anything that holds data is damage, never made anew."""
    _refuse_content_without_manifest(layout, segments)
    for number in segments.numbers():
        segments.path(number).unlink()
    create(segments)
    builder = BaseBuilder(layout, 0, mode=mode, stopping=lambda: False)
    builder.begin()
    stamp = builder.finish(Mark(), {})
    manifest = Manifest(secrets.token_hex(16), 0, {0: (stamp.life, stamp.mark)})
    if ACTIVE:
        hit("create.manifest")
    create_manifest(layout, manifest, mode=mode)
    return manifest


def _refuse_content_without_manifest(layout: Layout, segments: Segments) -> None:
    """A creation that was killed leaves empty parts only."""
    tables = list(layout.bases.glob("*/*.tct"))
    numbers = segments.numbers()
    if tables or len(numbers) > 1 or (numbers and not is_empty(segments, numbers[0])):
        raise CorruptionError("MANIFEST is missing, but the directory holds data", path=layout.manifest)


def _trusted_base(layout: Layout, manifest: Manifest) -> int:
    """The current base if its stamp holds, else the newest other one whose stamp does."""
    others = sorted(manifest.bases, key=lambda b: manifest.mark(b).version, reverse=True)
    for base in [manifest.current, *(b for b in others if b != manifest.current)]:
        try:
            if ACTIVE and off("stamp.trust"):
                return base
            if read_stamp(layout, base).life == manifest.bases[base][0]:
                return base
        except CorruptionError:
            continue  # written when the power went, or copied in use: the journal leads on from an older base
    raise CorruptionError("no base has the stamp that MANIFEST names", path=layout.bases)
