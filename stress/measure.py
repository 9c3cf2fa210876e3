"""A run over time: what was committed, how long it took, how large things were, and what was done to it when."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .records import Acknowledgements, Lines

INTERVAL_S = 0.5


@dataclass
class Sample:
    """One interval. Latencies in milliseconds; sizes are the last that were seen in it, or None."""

    at_s: float
    commits: int = 0
    conflicts: int = 0
    refused: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    worst_ms: float | None = None
    journal_bytes: int | None = None
    overlay_bytes: int | None = None
    overlay_rows: int | None = None


@dataclass(frozen=True)
class Mark:
    """A fault, or the end of a round."""

    at_s: float
    what: str


@dataclass
class Timeline:
    """Fed from the files of a round while it runs. Times are seconds since the run began."""

    began_ms: int
    samples: list[Sample] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    snapshots: int = 0
    commits: int = 0
    conflicts: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)

    def begin_round(self, records: Path) -> None:
        self._acknowledgements = Acknowledgements(records)
        self._sizes = Lines(records, "sizes-*")

    def mark(self, at_ms: int, what: str) -> None:
        self.marks.append(Mark(round((at_ms - self.began_ms) / 1000, 2), what))

    def look(self) -> None:
        """Take in what was written since the last look. Each interval is complete when a later one has begun."""
        by_interval: dict[int, list[float]] = defaultdict(list)
        for one in self._acknowledgements.new():
            at = self._interval(one.at_ms)
            sample = self.samples[at]
            sample.conflicts += one.conflicts
            self.conflicts += one.conflicts
            if one.version or not one.number:
                sample.commits += 1
                self.commits += 1
                self.by_kind[one.kind] += 1
                by_interval[at].append(one.took_us / 1000)
            else:
                sample.refused += 1
        for at, latencies in by_interval.items():
            self._put_latencies(self.samples[at], latencies)
        for _, line in self._sizes.new():
            self._put_sizes(json.loads(line))

    def _interval(self, at_ms: int) -> int:
        """The number of the sample of that moment, which is there then."""
        at = max(0, int((at_ms - self.began_ms) / 1000 / INTERVAL_S))
        while len(self.samples) <= at:
            self.samples.append(Sample(len(self.samples) * INTERVAL_S))
        return at

    def _put_latencies(self, sample: Sample, latencies: list[float]) -> None:
        self.latencies_ms += latencies[:: max(1, len(latencies) // 200)]
        sample.p50_ms, sample.p95_ms, sample.p99_ms = (percentile(latencies, p) for p in (50, 95, 99))
        sample.worst_ms = max(latencies)

    def _put_sizes(self, line: dict[str, Any]) -> None:
        self.snapshots += 1
        sample = self.samples[self._interval(line.pop("at_ms"))]
        for name, value in line.items():
            setattr(sample, name, value)

    def as_json(self) -> dict[str, Any]:
        return {"samples": [asdict(one) for one in self.samples], "marks": [asdict(one) for one in self.marks]}


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 3)
