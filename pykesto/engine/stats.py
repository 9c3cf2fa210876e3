"""Sizes and counts of one moment."""

from __future__ import annotations

from dataclasses import dataclass

from .attachments import Attachment


@dataclass(frozen=True, slots=True)
class Stats:
    """What `Database.stats` reports; sizes in bytes."""

    version: int
    base_version: int
    journal_bytes: int
    journal_undurable_bytes: int
    overlay_rows: int
    overlay_bytes: int
    attached_processes: int
    checkpoint_holder_pid: int
    recovered_records: int | None
    discarded_bytes: int | None


def stats(attachment: Attachment) -> Stats:
    """Stats of the database that this process is attached to."""
    store = attachment.store
    version = store.view.version()
    overlay = store.view.overlay
    return Stats(
        version=version,
        base_version=store.view.base_version(),
        journal_bytes=store.segments.size(),
        journal_undurable_bytes=store.state.end - store.state.durable_end,
        overlay_rows=overlay.rows() if overlay else 0,
        overlay_bytes=overlay.size_bytes if overlay else 0,
        attached_processes=store.control.attached(),
        checkpoint_holder_pid=store.checkpoint_lock.holder,
        recovered_records=store.recovered.records if store.recovered else None,
        discarded_bytes=store.recovered.discarded if store.recovered else None,
    )
