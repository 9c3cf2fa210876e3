"""What a run found, as one value, and as text for people."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from typing import Any

from .measure import percentile
from .run import Run

PROBLEMS_SHOWN = 20


def as_json(run: Run, kept: str | None) -> dict[str, Any]:
    """Everything, as `--json` prints it."""
    workloads: Counter[str] = Counter()
    for found in run.found:
        workloads.update(found.workloads)
    latencies = run.timeline.latencies_ms or [0.0]
    recoveries = [found.recovery_ms for found in run.found] or [0.0]
    return {
        "passed": not run.problems,
        "options": run.options.as_json(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "seconds": round(max((sample.at_s for sample in run.timeline.samples), default=0.0), 1),
        "rounds": len(run.found),
        "commits": sum(found.commits for found in run.found),
        "acknowledged": sum(found.acknowledged for found in run.found),
        "refused": sum(found.refused for found in run.found),
        "conflicts": run.timeline.conflicts,
        "snapshots": run.timeline.snapshots,
        "history_transactions": sum(found.transactions for found in run.found),
        "workloads": dict(workloads),
        "by": dict(run.timeline.by_kind),
        "faults": dict(run.counts),
        "exits": dict(run.exits),
        "latency_ms": {f"p{p:g}": percentile(latencies, p) for p in (50, 95, 99, 99.9)},
        "recovery_ms": {"median": percentile(recoveries, 50), "worst": max(recoveries)},
        "recovered_records": sum(found.recovered_records for found in run.found),
        "discarded_bytes": sum(found.discarded_bytes for found in run.found),
        "left_out": run.notes,
        "problems": run.problems,
        "kept": kept,
    } | run.timeline.as_json()


def as_text(said: dict[str, Any]) -> list[str]:
    """The same in a few lines."""
    options, latency, recovery = said["options"], said["latency_ms"], said["recovery_ms"]
    how = f"{options['processes']} workers, {options['durability']}, {options['isolation']}"
    lines = [
        f"seed {options['seed']}, {said['rounds']} rounds in {said['seconds']:g} s, {how}",
        f"{said['commits']:,} commits in the log ({_counts(said['workloads'])}), "
        f"{said['acknowledged']:,} acknowledged, {said['refused']:,} refused, {said['conflicts']:,} conflicts",
        f"committed by: {_counts(said['by'])}",
        f"{said['history_transactions']:,} transactions of histories checked, {said['snapshots']:,} snapshots watched",
        f"latency p50 {latency['p50']:g} ms, p99 {latency['p99']:g} ms, p99.9 {latency['p99.9']:g} ms; "
        f"recovery {recovery['median']:g} ms, at worst {recovery['worst']:g} ms",
        f"faults: {_counts(said['faults']) or 'none'}",
        f"processes: {_counts(said['exits']) or 'none ended by themselves'}",
    ]
    return lines + [f"left out: {note}" for note in said["left_out"]]


def show(said: dict[str, Any]) -> None:
    print("\n".join(as_text(said)))
    for problem in said["problems"][:PROBLEMS_SHOWN]:
        print(f"stress: {problem}", file=sys.stderr)
    where = f"; everything is kept in {said['kept']}" if said["kept"] else ""
    if said["problems"]:
        print(f"stress: {len(said['problems'])} problems; seed {said['options']['seed']}{where}", file=sys.stderr)
    else:
        print(f"stress: ok{where}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count)
