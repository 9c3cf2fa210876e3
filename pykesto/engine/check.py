"""Verify a whole database, from MANIFEST to the last index entry, while others use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ..errors import Error
from ..journal import Reader, SegmentGone
from .attachments import Attachment
from .base import Base
from .content import unpack_commit
from .embedded import EmbeddedStore
from .layout import Layout
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
    with store.checkpointing(wait_s):
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
        layout = self.store.layout
        for number in sorted(manifest.bases):
            if is_stamped(layout, manifest, number):
                self.bases += 1
                self.problems += problems_of(self.store, number)
            elif number == manifest.current:
                self.problems.append(f"{layout.stamp(number)} is not what MANIFEST names, for the current base")

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


def is_stamped(layout: Layout, manifest: Manifest, number: int) -> bool:
    """Whether a base has the stamp that MANIFEST names. Another one that has not is being made again: no damage."""
    try:
        return read_stamp(layout, number).life == manifest.bases[number][0]
    except Error:
        return False


@contextmanager
def opened(store: EmbeddedStore, number: int) -> Iterator[Base | None]:
    """A base, read through the handles that this process has of it; None if an older session of it has them."""
    with closing(store.view.snapshot()) as snapshot:
        if snapshot.base.number == number:
            yield snapshot.base
        elif store.view.uses_base(number):
            yield None
        else:
            store.view.forget_base(number)
            with closing(Base(store.layout, number, 0)) as base:
                yield base


def problems_of(store: EmbeddedStore, number: int) -> list[str]:
    """What is wrong with a base, in words. The caller holds checkpoint.lock."""
    with opened(store, number) as base:
        return [] if base is None else list(base.check())
