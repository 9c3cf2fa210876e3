"""The words of the control page that belong to the journal.

They are rebuilt by the first process that attaches and never believed by it. `end` is published with a release
store after the record's bytes are in place: whoever loads it sees them.
"""

from __future__ import annotations

from ..errors import StorageError
from ..files import SharedWords

WORDS = 16
END, DURABLE_END, SEGMENT, POISON, LEADING, ALONE, SYNC_SEQUENCE, CLEAN, GENERATION, ROLLING = range(10)


class JournalState:
    """The journal's shared words. Positions are bytes from the journal's beginning."""

    def __init__(self, words: SharedWords, first_word: int) -> None:
        self.words = words
        self.first = first_word

    @property
    def end(self) -> int:
        """The end of the newest published record."""
        return self.words.load(self.first + END)

    @property
    def durable_end(self) -> int:
        """Everything before is on stable storage."""
        return self.words.load(self.first + DURABLE_END)

    @property
    def segment(self) -> int:
        """The number of the newest segment. Load it after `end`: it is stored before."""
        return self.words.load(self.first + SEGMENT)

    @property
    def generation(self) -> int:
        return self.words.load(self.first + GENERATION)

    @property
    def clean(self) -> bool:
        """The newest segment says that it was closed cleanly: to be taken back before the first append."""
        return bool(self.words.load(self.first + CLEAN))

    @property
    def leading(self) -> bool:
        """A holder of sync.lock began a sync and did not end it. Written by holders of sync.lock only."""
        return bool(self.words.load(self.first + LEADING))

    @leading.setter
    def leading(self, value: bool) -> None:
        self.words.store(self.first + LEADING, int(value))

    @property
    def alone(self) -> bool:
        """A holder of commit.lock began a sync and did not end it. Written by holders of commit.lock only."""
        return bool(self.words.load(self.first + ALONE))

    @alone.setter
    def alone(self, value: bool) -> None:
        self.words.store(self.first + ALONE, int(value))

    def begin(self, *, end: int, segment: int, generation: int, clean: bool) -> None:
        """Start anew after recovery: everything up to `end` is durable."""
        first = {POISON: 0, LEADING: 0, ALONE: 0, SEGMENT: segment, GENERATION: generation, CLEAN: clean, ROLLING: 0}
        for word, value in first.items():
            self.words.store(self.first + word, int(value))
        self.words.store(self.first + DURABLE_END, end)
        self.words.store(self.first + END, end)

    def publish(self, end: int) -> None:
        self.words.store(self.first + END, end)

    def publish_segment(self, number: int) -> None:
        self.words.store(self.first + SEGMENT, number)

    @property
    def rolling(self) -> bool:
        """Someone began a new segment; if it is not published, its maker died."""
        return bool(self.words.load(self.first + ROLLING))

    def roll_begins(self) -> None:
        self.words.store(self.first + ROLLING, 1)

    def roll_ends(self) -> None:
        self.words.store(self.first + ROLLING, 0)

    def taken_back(self) -> None:
        self.words.store(self.first + CLEAN, 0)

    def publish_durable(self, end: int) -> None:
        self.words.raise_to(self.first + DURABLE_END, end)

    def poison(self, errno: int) -> None:
        """Refuse every further commit, in every process, until all have closed and recovery has run."""
        self.words.store(self.first + POISON, max(1, errno))
        self.wake()

    @property
    def poisoned(self) -> int:
        """The errno of the failed sync, or 0."""
        return self.words.load(self.first + POISON)

    def refuse_if_poisoned(self) -> None:
        if errno := self.poisoned:
            raise StorageError(
                "a sync of the journal failed; what is on disk is unknown, so commits are refused",
                errno=errno,
                hint="close the database in every process and open it again: recovery finds what is truly there",
            )

    def sequence(self) -> int:
        return self.words.load(self.first + SYNC_SEQUENCE)

    def wait(self, sequence: int, seconds: float) -> None:
        self.words.wait(self.first + SYNC_SEQUENCE, sequence, seconds)

    def wake(self) -> None:
        self.words.add(self.first + SYNC_SEQUENCE, 1)
        self.words.wake(self.first + SYNC_SEQUENCE)
