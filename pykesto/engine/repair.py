"""Rebuild what can be rebuilt: a damaged base, from the other one and the journal, or from its own rows.

Never guesses: a row is taken only if its checksum holds, and only from where nothing newer can be missing. If a row
can't be had anywhere nothing is changed, and the error names it. A new base is built beside the damaged one, with the
steps of a checkpoint, so a repair may be killed at any moment and run again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..errors import CorruptionError, Error, UsageError
from ..journal import Reader, SegmentGone
from ..store import Row
from .attachments import Attachment
from .base import Base, BaseBuilder
from .check import Report, check, is_stamped, opened, problems_of
from .embedded import EmbeddedStore
from .guard import own_key, unpack_row
from .manifest import Manifest, Mark, Stamp, read_manifest, read_stamp, remove_stamp, write_manifest
from .newest import Images, Newest, images_of
from .schema import Schema

_BATCH = 256
_NAMED = 5

_log = logging.getLogger("pykesto")
Found = dict[str, dict[bytes, Row | None]]


def repair(attachment: Attachment, wait_s: float | None) -> Report:
    """Repair the database while it is in use, and check it again.

    Raises:
        CorruptionError: rows are damaged that no other place has; nothing was changed.
    """
    store = attachment.store
    with store.checkpointing(wait_s), attachment.checkpointer.gate.open():
        _Repair(store).run()
    store.view.catch_up_with_base()
    return check(attachment, wait_s)


class _Repair:
    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store

    def run(self) -> None:
        manifest = read_manifest(self.store.layout)
        if manifest is None:
            raise CorruptionError("MANIFEST is gone", path=self.store.layout.manifest)
        for number in manifest.bases:
            with opened(self.store, number) as base:
                if base is None:
                    raise UsageError(
                        f"base {number} can't be looked at: an older session of this process reads it",
                        hint="end the sessions of this process, then repair",
                    )
        damaged = {number for number in manifest.bases if not self._is_sound(manifest, number)}
        if manifest.current in damaged:
            manifest = self._replace_current(manifest, damaged)
        for number in damaged & manifest.bases.keys():
            _log.warning("base %d of %s is damaged; it will be made again", number, self.store.layout.directory)
            manifest = write_manifest(self.store.layout, manifest.without_base(number), poison=self.store.state.poison)
            remove_stamp(self.store.layout, number)

    def _is_sound(self, manifest: Manifest, number: int) -> bool:
        try:
            if not is_stamped(self.store.layout, manifest, number):
                return False
            return not any(True for _ in problems_of(self.store, number))
        except Error:
            return False

    def _replace_current(self, manifest: Manifest, damaged: set[int]) -> Manifest:
        store = self.store
        store.sync.make_durable(store.state.end)
        pinned = frozenset[int]().union(*(pins.bases for pins in store.control.pins()))
        target = next(b for b in range(64) if b not in pinned and b not in manifest.bases)
        store.view.forget_base(target)
        builder = BaseBuilder(store.layout, target, mode=store.mode, stopping=lambda: False)
        sound = [b for b in manifest.bases if b not in damaged and self._reader(manifest.mark(b)) is not None]
        if sound:
            stamp = self._go_on_from(max(sound, key=lambda b: manifest.mark(b).version), builder)
        else:
            stamp = self._gather(manifest, builder)
        manifest = write_manifest(store.layout, manifest.with_base(target, stamp), poison=store.state.poison)
        store.control.flip_to(target)
        _log.warning("the current base of %s was damaged; it was rebuilt as base %d", store.layout.directory, target)
        return manifest

    def _reader(self, mark: Mark) -> Reader | None:
        """A reader that stands at a base's mark; None if the journal no longer reaches back to it."""
        segments, newest = self.store.segments, self.store.state.segment
        try:
            return Reader.at(segments, position=mark.position, crc=mark.crc, number=mark.version, newest=newest)
        except SegmentGone:
            return None

    def _newer(self, stamp: Stamp) -> tuple[dict[str, Images], Schema, Mark] | None:
        """What the journal holds after a base: the newest images, the schema at its end, and where that is."""
        reader = self._reader(stamp.mark)
        if reader is None:
            return None
        schema = Schema(stamp.tables)
        newest = Newest(schema)
        end = self.store.state.end
        reader.gather(self.store.state, newest, until=end, enough=end)
        return newest.tables(), schema, Mark(reader.number, reader.position, reader.crc)

    def _go_on_from(self, source: int, builder: BaseBuilder) -> Stamp:
        """A sound base, brought forward."""
        stamp = read_stamp(self.store.layout, source)
        newer = self._newer(stamp)
        assert newer is not None
        rows, schema, mark = newer
        builder.begin()
        builder.copy_from(self.store.layout.base(source))
        builder.apply(rows, schema.tables())
        return builder.finish(mark, schema.tables())

    def _gather(self, manifest: Manifest, builder: BaseBuilder) -> Stamp:
        """The newest sound image of each row, from every base and the journal; CorruptionError if one is nowhere."""
        current = read_stamp(self.store.layout, manifest.current)
        newer = self._newer(current)
        if newer is None:
            raise CorruptionError("the journal does not reach back to the current base", path=self.store.layout.journal)
        latest, schema, mark = newer
        found, lost = self._rows_of(manifest.current)
        if any(lost.values()):
            self._fill_in(manifest, found, lost)
        for table, images in latest.items():
            rows = dict(images.items())
            found.setdefault(table, {}).update(rows)
            lost.get(table, set()).difference_update(rows)
        if missing := [(table, key) for table, keys in lost.items() for key in keys]:
            named = ", ".join(f"{table} {key!r}" for table, key in missing[:_NAMED])
            raise CorruptionError(
                f"{len(missing)} rows are damaged, and nothing else has them: {named}",
                path=self.store.layout.base(manifest.current),
                hint="restore them from a backup; db.check() lists what is damaged",
            )
        builder.begin()
        builder.clear()
        builder.apply({table: images_of(rows) for table, rows in found.items()}, schema.tables())
        return builder.finish(mark, schema.tables())

    def _rows_of(self, number: int) -> tuple[Found, dict[str, set[bytes]]]:
        """The rows of a base that hold, and the keys of those that don't."""
        found: Found = {}
        lost: dict[str, set[bytes]] = {}
        with opened(self.store, number) as base:
            for name in base.stamp.tables if base is not None else ():
                assert base is not None
                rows = dict(_rows(base, name))
                pages = base.pages(name, "")
                listed = set() if pages is None else {key for _, key in pages.entries()}
                named = listed | rows.keys()
                found[name] = {key: row for key, row in rows.items() if row is not None}
                lost[name] = named - found[name].keys()
        return found, lost

    def _fill_in(self, manifest: Manifest, found: Found, lost: dict[str, set[bytes]]) -> None:
        """Settle lost keys by other bases, if the journal says what became of them since."""
        for number in sorted(manifest.bases, key=lambda b: manifest.mark(b).version, reverse=True):
            if number == manifest.current or not is_stamped(self.store.layout, manifest, number):
                continue
            newer = self._newer(read_stamp(self.store.layout, number))
            if newer is None:
                continue
            rows, unknown = self._rows_of(number)
            for table, keys in lost.items():
                images = newer[0].get(table)
                since, before = {} if images is None else dict(images.items()), rows.get(table, {})
                for key in list(keys):
                    if key in since or key not in unknown.get(table, set()):
                        keys.discard(key)  # the journal has it, or the base has, or there was no such row at all
                        if (row := since.get(key, before.get(key))) is not None:
                            found[table][key] = row


def _rows(base: Base, name: str) -> Iterator[tuple[bytes, Row | None]]:
    table = base.table(name)
    if table is None:
        return
    for batch in table.raw_batches(_BATCH):
        for stored, raw in batch:
            try:
                yield own_key(stored), unpack_row(stored, raw, table)
            except CorruptionError:
                yield own_key(stored), None
