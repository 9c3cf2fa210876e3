"""One line on a terminal, while a run goes on."""

from __future__ import annotations

import shutil
import sys
import time

from .run import Run

EACH_S = 0.25


class Progress:
    """Call it often: it draws when it is time."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, run: Run) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EACH_S
        recent = run.timeline.samples[-5:-1]
        rate = sum(sample.commits for sample in recent) / (0.5 * len(recent)) if recent else 0.0
        done = min(1.0, (now - run.began) / run.options.seconds)
        bar = f"[{'#' * round(done * 20):20}]"
        faults = sum(run.counts.values())
        line = f"{bar} {now - run.began:4.0f} s  round {run.round}  {run.timeline.commits:,} commits  {rate:,.0f}/s  "
        line += f"{run.timeline.conflicts:,} conflicts  {faults} faults  {run.timeline.snapshots:,} snapshots"
        self._draw(line)

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{line[:width]:{width}}")
        sys.stderr.flush()

    def clear(self) -> None:
        self._draw("")
        sys.stderr.write("\r")
