"""Bring a base that nobody uses forward to the durable end of the journal, then make it current.

The stamp of the base goes first and comes back last, MANIFEST follows, then the flip in the control page: a kill or a
power cut at any step leaves the old base current and the journal whole. Whoever gets checkpoint.lock first makes
`control` agree with MANIFEST. Two usual bases; further ones only while readers pin every other.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from ..errors import CorruptionError, LockTimeout
from ..failpoints import ACTIVE, hit, off
from ..journal import Reader, SegmentGone
from .base import BaseBuilder, Stopped
from .control import Pins, base_of
from .embedded import EmbeddedStore
from .manifest import Manifest, Mark, Stamp, read_manifest, read_stamp, write_manifest
from .newest import Newest
from .schema import Schema
from .threads import Daemon

JOURNAL_BYTES = 8 << 20  # a checkpoint is due when this much follows the current base
BATCH_BYTES = 16 << 20  # one checkpoint applies about so much of it: even a process that soon ends brings the base on
COPIED_SHARE = 8  # one that had to copy a base applies so large a part of its size, so that fewer have to,
COPIED_BATCH_BYTES = 512 << 20  # and no more than this
BEHIND_BYTES = 2 * BATCH_BYTES  # of journal after the current base
CLOSING_PATIENCE_S = 5.0  # how long close() lets a checkpoint finish before it has it given up
HELP_PATIENCE_S = 1.0  # how long who commits waits for another process's checkpoint when memory is full
HELP_PAUSE_S = 1.0  # after one that came to nothing
NO_THREAD_PAUSE_S = 1.0  # where the system gives no thread, don't ask after each commit
LEASE_BYTES = 512 << 20  # a session keeps at most so much journal back
LEASE_S = 3600

_log = logging.getLogger("pykesto")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a checkpoint did: applied `commits` and made `base` current at `version`; or why it did nothing."""

    done: bool
    reason: str = ""
    base: int = 0
    version: int = 0
    commits: int = 0
    took_s: float = 0.0
    left_bytes: int = 0  # of journal that this one left to the next


def checkpoint(store: EmbeddedStore, gate: Gate, *, wait_s: float | None = 0.0) -> Outcome:
    """Run one checkpoint. If another does, wait for it, with LockTimeout after `wait_s`; if that is 0, leave it be."""
    began = time.monotonic()
    with store.checkpointing(wait_s, optional=wait_s == 0) as got:
        if not got:
            return Outcome(False, "another process or thread is at it")
        store.require_open()
        store.state.refuse_if_poisoned()
        try:
            with gate.open():
                gate.refuse_if_stopping()
                return _Checkpoint(store, gate).run(began)
        except Stopped:
            return Outcome(False, "stopped")


class Gate:
    """Lets a fork, or a close, wait until no Tokyo Cabinet writer is open in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def open(self) -> threading.Lock:
        return self._lock

    def stopping(self) -> bool:
        return self._stop.is_set()

    def refuse_if_stopping(self) -> None:
        if self.stopping():
            raise Stopped("before it began")

    def shut(self) -> None:
        """Ask the work to stop, and return when it has."""
        self._stop.set()
        self._lock.acquire()

    def reopen(self) -> None:
        self._stop.clear()
        self._lock.release()

    def close(self) -> None:
        """Shut for good: whoever waits to work is turned away."""
        self.shut()
        self._lock.release()


class _Checkpoint:
    """The state of one run. checkpoint.lock is held."""

    def __init__(self, store: EmbeddedStore, gate: Gate) -> None:
        self.store, self.gate = store, gate
        self.commits = 0

    def run(self, began: float) -> Outcome:
        store = self.store
        manifest = self._reconciled()
        current = manifest.current
        if not (ACTIVE and off("checkpoint.durable")):
            store.sync.make_durable(store.state.end)
        until = store.state.end if ACTIVE and off("checkpoint.durable") else store.state.durable_end
        if until == manifest.mark(current).position:
            return Outcome(False, "the current base holds everything", current, manifest.mark(current).version)
        pins = store.control.pins()
        target = self._target(current, pins)
        if target is None:
            return Outcome(False, f"sessions of processes {sorted({p.pid for p in pins})} pin every base")
        stamp = self._build(manifest, target, until)
        if ACTIVE:
            hit("checkpoint.manifest")
        manifest = write_manifest(store.layout, manifest.with_base(target, stamp), poison=store.state.poison)
        if ACTIVE:
            hit("checkpoint.flip")
        store.control.flip_to(target)
        if ACTIVE:
            hit("checkpoint.clean")
        self._clean_up(manifest)
        took_s = time.monotonic() - began
        return Outcome(True, "", target, stamp.mark.version, self.commits, took_s, until - stamp.mark.position)

    def _reconciled(self) -> Manifest:
        """MANIFEST, with the flip published that a dead checkpointer may have left out."""
        manifest = read_manifest(self.store.layout)
        if manifest is None:
            raise CorruptionError("MANIFEST is gone", path=self.store.layout.manifest)
        if ACTIVE and off("checkpoint.reconcile"):
            return manifest
        if base_of(self.store.control.base_word()) != manifest.current:
            self.store.control.flip_to(manifest.current)
        return manifest

    def _target(self, current: int, pins: list[Pins]) -> int | None:
        """A base to write: the lowest that is neither current nor pinned, a further copy if there must be one."""
        pinned = {current}.union(*(p.bases for p in pins))
        limit = 2 if ACTIVE and off("checkpoint.copies") else min(len(pins) + 2, 64)
        return next((b for b in range(limit) if b not in pinned), None)

    def _build(self, manifest: Manifest, target: int, until: int) -> Stamp:
        """Bring `target` to `until`, from its own mark if the journal still reaches it, else from a copy."""
        store = self.store
        store.view.forget_base(target)
        # Who is behind hurries: commits wait, once memory is full, for bases to come on.
        behind = until - manifest.mark(manifest.current).position > BEHIND_BYTES
        builder = BaseBuilder(store.layout, target, mode=store.mode, stopping=self.gate.stopping, gently=not behind)
        source = target if self._can_go_forward(manifest, target) else manifest.current
        stamp = read_stamp(store.layout, source)
        builder.begin()
        if ACTIVE:
            hit("checkpoint.begin")
        batch = BATCH_BYTES
        if source != target:
            copied = builder.copy_from(store.layout.base(source))
            batch = max(batch, min(copied // COPIED_SHARE, COPIED_BATCH_BYTES))
        schema = Schema(stamp.tables)
        reader = self._reader(stamp.mark)
        # No less than the current base has: overlays hold nothing before it, so none that ends earlier may follow it.
        enough = manifest.mark(manifest.current).position + batch
        newest = Newest(schema)
        reader.gather(store.state, newest, until=until, enough=enough)
        self.commits = newest.commits
        builder.apply(newest.tables(), schema.tables())
        return builder.finish(Mark(reader.number, reader.position, reader.crc), schema.tables())

    def _reader(self, mark: Mark) -> Reader:
        store = self.store
        return Reader.at(
            store.segments, position=mark.position, crc=mark.crc, number=mark.version, newest=store.state.segment
        )

    def _can_go_forward(self, manifest: Manifest, base: int) -> bool:
        if base not in manifest.bases:
            return False
        try:
            if not (ACTIVE and off("checkpoint.reach")):
                self._reader(manifest.mark(base))
            return read_stamp(self.store.layout, base).life == manifest.bases[base][0]
        except (CorruptionError, SegmentGone):
            return False

    def _clean_up(self, manifest: Manifest) -> None:
        """Remove further bases that nobody uses, and segments that no base and no live session needs."""
        store = self.store
        pins = store.control.pins()
        pinned = {manifest.current}.union(*(p.bases for p in pins))
        for base in sorted(manifest.bases):
            if base > 1 and base not in pinned:
                store.view.forget_base(base)
                manifest = write_manifest(store.layout, manifest.without_base(base), poison=store.state.poison)
                BaseBuilder(store.layout, base, mode=store.mode, stopping=lambda: False).remove()
        store.segments.remove_before(self._kept_from(manifest, pins))

    def _kept_from(self, manifest: Manifest, pins: list[Pins]) -> int:
        """Where the journal must still reach back to. A session past its lease gives up journal, never its base."""
        end = self.store.state.end
        needed = [manifest.mark(manifest.current).position]
        needed += [mark.position for _, mark in manifest.bases.values() if end - mark.position < LEASE_BYTES]
        for pin in pins:
            if pin.oldest is not None and end - pin.oldest < LEASE_BYTES and time.time() - pin.since_s < LEASE_S:
                needed.append(pin.oldest)
        return min(needed)


class Checkpointer:
    """A daemon thread that runs a checkpoint when enough journal has gathered."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.gate = Gate()
        self.daemon = Daemon("checkpoint", self._work)
        self._not_before = 0.0
        self._no_help_before = 0.0
        self.last: Outcome | None = None
        store.view.when_due(JOURNAL_BYTES, self.notice)

    def notice(self) -> None:
        """Called whenever much journal has gathered."""
        if time.monotonic() >= self._not_before:
            self.want()

    def want(self) -> None:
        """Have a checkpoint soon. Whoever calls has committed, and must not fail any more."""
        if not self.daemon.want():
            self._not_before = time.monotonic() + NO_THREAD_PAUSE_S

    def help(self) -> None:
        """Called by who commits while memory is full: before more comes, a base takes some, by this thread or another.

        A bulk load is held to the pace of checkpoints so. Where none can be made memory goes on growing.
        """
        if self.daemon.closing or time.monotonic() < self._no_help_before:
            return
        self._no_help_before = time.monotonic() + HELP_PAUSE_S
        try:
            if not checkpoint(self.store, self.gate, wait_s=HELP_PATIENCE_S).done:
                return
        except LockTimeout:
            pass  # another process is at it, and was waited for
        self._no_help_before = 0.0
        self.store.view.catch_up_with_base()

    def now(self, wait_s: float | None) -> Outcome:
        """Run checkpoints in this thread, until the base holds everything that was committed when it was called."""
        self.last = checkpoint(self.store, self.gate, wait_s=wait_s)
        while self.last.done and self.last.left_bytes:
            self.last = checkpoint(self.store, self.gate, wait_s=wait_s)
        if self.last.done:
            self.store.view.catch_up_with_base()
        return self.last

    def _work(self) -> None:
        began = time.monotonic()
        try:
            outcome = self.last = checkpoint(self.store, self.gate)
            _log.debug("checkpoint of %s: %s", self.store.layout.directory, outcome)
            pause_s = 0.0 if outcome.done else 0.2
            if outcome.done:
                self.store.view.catch_up_with_base()
            if outcome.left_bytes >= JOURNAL_BYTES:
                self.daemon.ask()
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the journal keeps everything: try again
            if not self.daemon.closing:
                _log.warning("checkpoint of %s failed: %s", self.store.layout.directory, error, exc_info=error)
            pause_s = 5.0
        # No more than half of the time is spent on checkpoints, and one that could not be is not tried at once.
        self._not_before = time.monotonic() + max(pause_s, time.monotonic() - began)

    def close(self) -> None:
        """End the thread; a checkpoint in its midst may finish, if that does not take long."""
        self.daemon.close(CLOSING_PATIENCE_S)
        self.gate.close()  # another thread may be in checkpoint(): two at one base, with its locks gone, would break it
