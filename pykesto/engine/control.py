"""The control page: words that all attached processes share, and their slots of pins.

It is rebuilt by every first attacher and never believed by it. A pin is stored, then a full fence, then the current
base is looked at again; a checkpoint flips the base, then a fence, then reads the pins: one of the two sees the other.
Whether a process lives is told by its slot file being locked, not by its pid, which is here for people to read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import StorageError
from ..failpoints import ACTIVE, off
from ..files import FileLock, SharedWords, open_file, translated, write_at
from .layout import Layout

MAGIC = 0x314B50414745314B
SLOTS = 1000
_SLOT_WORDS = 8
_FIRST_SLOT = 512
_WORDS = _FIRST_SLOT + SLOTS * _SLOT_WORDS

_MAGIC_WORD, BASE_WORD = 0, 1
COMMIT_LOCK_WORDS, SYNC_LOCK_WORDS, CHECKPOINT_LOCK_WORDS, TURN_LOCK_WORDS = 8, 12, 16, 20
JOURNAL_WORDS = 32
PINNED_BASES, OLDEST, SINCE, _PID = range(4)


@dataclass(frozen=True, slots=True)
class Pins:
    """What one live process holds: a set of bases, and the journal from `oldest` on (None: no session)."""

    slot: int
    pid: int
    bases: frozenset[int]
    oldest: int | None
    since_s: int


def base_of(word: int) -> int:
    """The base that a base word names; the rest of the word counts the flips."""
    return word & 0xFF


class Control:
    """The mapped control page of a database."""

    def __init__(self, layout: Layout, *, mode: int) -> None:
        self.layout = layout
        fd = open_file(layout.control, create=True, mode=mode)
        try:
            with translated("allocate", layout.control):
                os.posix_fallocate(fd, 0, _WORDS * 8)  # a full disk is an error here, not a SIGBUS later
            with translated("map", layout.control):
                self.words = SharedWords(fd, _WORDS)
        finally:
            os.close(fd)

    def rebuild(self) -> None:
        """Forget everything. Only for the first attacher, who is alone."""
        fd = open_file(self.layout.control)
        try:
            with translated("write", self.layout.control):
                write_at(fd, bytes(_WORDS * 8), 0)
        finally:
            os.close(fd)
        self.words.store(_MAGIC_WORD, MAGIC)

    def require(self) -> None:
        """Refuse a page that no first attacher has built."""
        if self.words.load(_MAGIC_WORD) != MAGIC:
            raise StorageError(
                f"{self.layout.control} was replaced while processes had the database open", path=self.layout.control
            )

    def base_word(self) -> int:
        return self.words.load(BASE_WORD)

    def flip_to(self, base: int) -> None:
        """Make `base` current, in a word that was never there before."""
        flips = (self.base_word() >> 8) + 1
        self.words.store(BASE_WORD, flips << 8 | base)
        self.words.fence()

    def first_word_of(self, slot: int) -> int:
        """Where a slot's pins are."""
        return _FIRST_SLOT + slot * _SLOT_WORDS

    def _slot_word(self, slot: int, word: int) -> int:
        return self.first_word_of(slot) + word

    def take_slot(self, mode: int) -> tuple[int, FileLock]:
        """Lock a free slot's file, then clear what a dead process left in the slot."""
        for slot in range(SLOTS):
            lock = FileLock(self.layout.slot(slot), mode=mode)
            if lock.try_acquire():
                for word in range(_SLOT_WORDS):
                    self.words.store(self._slot_word(slot, word), 0)
                self.words.store(self._slot_word(slot, _PID), os.getpid())
                return slot, lock
            lock.close()
        raise StorageError(
            f"{SLOTS} processes have {self.layout.directory} open; no slot is free", path=self.layout.attached
        )

    def pins(self) -> list[Pins]:
        """What live processes hold. Slots of the dead are ignored, never cleared by others."""
        self.words.fence()
        found = []
        for slot in range(SLOTS):
            mask = self.words.load(self._slot_word(slot, PINNED_BASES))
            oldest = self.words.load(self._slot_word(slot, OLDEST))
            if (mask or oldest) and (self._lives(slot) or (ACTIVE and off("pins.alive"))):
                bases = frozenset(b for b in range(64) if mask >> b & 1)
                pid, since = (self.words.load(self._slot_word(slot, w)) for w in (_PID, SINCE))
                found.append(Pins(slot, pid, bases, oldest - 1 if oldest else None, since))
        return found

    def attached(self) -> int:
        """How many slots have been used by processes that live."""
        used = (s for s in range(SLOTS) if self.words.load(self._slot_word(s, _PID)))
        return sum(map(self._lives, used))

    def _lives(self, slot: int) -> bool:
        if not self.layout.slot(slot).exists():
            return False
        lock = FileLock(self.layout.slot(slot))
        try:
            return not lock.try_acquire(shared=True)
        finally:
            lock.close()

    def close(self) -> None:
        self.words.close()
