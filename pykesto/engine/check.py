"""Verify a whole database, from MANIFEST to the last index entry, while others use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from ..errors import Error
from ..journal import Reader, SegmentGone
from .attachments import Attachment
from .base import Base
from .content import unpack_commit
from .embedded import EmbeddedStore
from .manifest import Manifest, read_manifest, read_stamp


@dataclass(frozen=True, slots=True)
class Report:
    """What `Database.check` found."""

    problems: tuple[str, ...]
    bases: int
    commits: int

    @property
    def ok(self) -> bool:
        return not self.problems


def check(attachment: Attachment, wait_s: float | None) -> Report:
    """Check everything; holds off checkpoints meanwhile, but neither readers nor commits."""
    store = attachment.store
    with store.checkpoint_lock.held(wait_s):
        return _Check(store).run()


class _Check:
    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.problems: list[str] = []
        self.bases = self.commits = 0

    def run(self) -> Report:
        try:
            manifest = read_manifest(self.store.layout)
            if manifest is None:
                self.problems.append(f"{self.store.layout.manifest} is missing")
            else:
                self._check_bases(manifest)
                self._check_journal(manifest)
        except Error as error:
            self.problems.append(str(error))
        return Report(tuple(self.problems), self.bases, self.commits)

    def _check_bases(self, manifest: Manifest) -> None:
        with closing(self.store.view.snapshot()) as snapshot:
            for number, (life, _) in sorted(manifest.bases.items()):
                trusted = self._stamp_holds(number, life)
                if not trusted and number == manifest.current:
                    self.problems.append(
                        f"{self.store.layout.stamp(number)} is not what MANIFEST names, for the current base"
                    )
                if trusted:
                    self.bases += 1
                    self.problems += self._base_problems(number, snapshot.base)

    def _stamp_holds(self, number: int, life: str) -> bool:
        try:
            return read_stamp(self.store.layout, number).life == life
        except Error:
            return False  # being made again is no damage, unless it is the current one

    def _base_problems(self, number: int, own: Base) -> Iterator[str]:
        if own.number == number:
            yield from own.check()
            return
        if self.store.view.uses_base(number):
            return  # an older session of this process has it open
        self.store.view.forget_base(number)
        base = Base(self.store.layout, number, 0)
        try:
            yield from base.check()
        finally:
            base.close()

    def _check_journal(self, manifest: Manifest) -> None:
        """Read every record from the oldest base's mark to the end."""
        mark = min((mark for _, mark in manifest.bases.values()), key=lambda mark: mark.position)
        store = self.store
        try:
            reader = Reader.at(
                store.segments, position=mark.position, crc=mark.crc, number=mark.version, newest=store.state.segment
            )
        except SegmentGone:
            current = manifest.mark(manifest.current)
            reader = Reader.at(
                store.segments,
                position=current.position,
                crc=current.crc,
                number=current.version,
                newest=store.state.segment,
            )
        for record in reader.read_to(store.state):
            unpack_commit(record.payload)
            self.commits += 1
