"""Sizes and counts of one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .attachments import Attachment
from .checkpoint import Outcome


@dataclass(frozen=True, slots=True)
class Pinned:
    """What the sessions of one process hold: bases, and `journal_bytes` of journal for `age_s` seconds."""

    pid: int
    bases: tuple[int, ...]
    journal_bytes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Stats:
    """What `Database.stats` reports. Sizes are in bytes.

    `commits`, `syncs` and `conflicts` count what all processes did since the first of those that are attached now;
    the overlay, `last_checkpoint` and `recovered_records` are this process's own.
    """

    version: int
    base_version: int
    commits: int
    syncs: int
    conflicts: int
    journal_bytes: int
    journal_undurable_bytes: int
    overlay_rows: int
    overlay_bytes: int
    attached_processes: int
    pins: tuple[Pinned, ...]
    checkpoint_holder_pid: int
    last_checkpoint: Outcome | None
    recovered_records: int | None
    discarded_bytes: int | None

    @property
    def commits_per_sync(self) -> float:
        """How many commits shared one sync of the disk."""
        return self.commits / self.syncs if self.syncs else 0.0


def stats(attachment: Attachment) -> Stats:
    """Stats of the database that this process is attached to."""
    store = attachment.store
    version = store.view.version()
    overlay = store.view.overlay
    state = store.state
    return Stats(
        version=version,
        base_version=store.view.base_version(),
        commits=state.commits,
        syncs=state.syncs,
        conflicts=state.conflicts,
        journal_bytes=store.segments.size(),
        journal_undurable_bytes=state.end - state.durable_end,
        overlay_rows=overlay.rows() if overlay else 0,
        overlay_bytes=overlay.size_bytes if overlay else 0,
        attached_processes=store.control.attached(),
        pins=_pins(attachment),
        checkpoint_holder_pid=store.checkpoint_lock.holder,
        last_checkpoint=attachment.checkpointer.last,
        recovered_records=store.recovered.records if store.recovered else None,
        discarded_bytes=store.recovered.discarded if store.recovered else None,
    )


def _pins(attachment: Attachment) -> tuple[Pinned, ...]:
    store, now_s = attachment.store, time.time()
    return tuple(
        Pinned(
            pid=pins.pid,
            bases=tuple(sorted(pins.bases)),
            journal_bytes=0 if pins.oldest is None else max(0, store.state.end - pins.oldest),
            age_s=max(0.0, now_s - pins.since_s) if pins.since_s else 0.0,
        )
        for pins in store.control.pins()
    )
