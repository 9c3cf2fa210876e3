"""The report as a page of its own: no script, no other file, plots as inline SVG."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from .report import as_text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 200, 64, 22, 8
COLOURS = ("#2563a8", "#c2410c", "#15803d", "#7e22ce")
MARK_COLOURS = {"all killed": "#b91c1c", "kill": "#f59e0b", "stop": "#6b7280"}
OTHER_MARK = "#a21caf"
POINTS_MAX = 480
TABLES = (("Workloads", "workloads"), ("Committed by", "by"), ("Faults", "faults"), ("Ends of processes", "exits"))

STYLE = """
:root { color-scheme: light dark; --line: #8884;
  --text: light-dark(#1c1c1e, #e8e8ea); --back: light-dark(#fff, #1b1b1d) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--back) }
h1 { font-size: 1.5rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .2rem }
.verdict { padding: .6rem 1rem; border-left: 6px solid #15803d; background: #15803d1c }
.verdict.bad { border-color: #b91c1c; background: #b91c1c1c }
table { border-collapse: collapse }
td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto; display: block } svg text { font-size: 11px; fill: var(--text) }
pre { white-space: pre-wrap; background: #8881; padding: .6rem }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em }
"""


@dataclass(frozen=True)
class Line:
    """One line of a plot; None where nothing was seen."""

    name: str
    values: list[float | None]


def page(said: dict[str, Any]) -> str:
    """The whole document."""
    samples, marks = _merged(said["samples"]), said["marks"]
    interval_s = samples[1]["at_s"] - samples[0]["at_s"] if len(samples) > 1 else 0.5
    end_s = max((sample["at_s"] for sample in samples), default=0.0) + interval_s

    def line(title: str, name: str, scale: float = 1.0) -> Line:
        return Line(title, [None if sample[name] is None else sample[name] * scale for sample in samples])

    def plot(title: str, *lines: Line, log: bool = False) -> str:
        return _plot(title, [sample["at_s"] for sample in samples], end_s, lines, marks, log=log)

    plots = [
        plot("Transactions per second", line("committed", "commits", 1 / interval_s)),
        plot(
            "Latency of a transaction with its retries, ms",
            line("p50", "p50_ms"),
            line("p95", "p95_ms"),
            line("p99", "p99_ms"),
            line("worst", "worst_ms"),
            log=True,
        ),
        plot(
            "Conflicts and refusals per second",
            line("conflicts", "conflicts", 1 / interval_s),
            line("refused", "refused", 1 / interval_s),
        ),
        plot("Journal, MiB", line("on disk", "journal_bytes", 2**-20)),
        plot("Overlay of the watcher, MiB", line("in memory", "overlay_bytes", 2**-20)),
    ]
    verdict = "passed: no violation was found" if said["passed"] else f"failed: {len(said['problems'])} problems"
    problems = "".join(f"<pre>{escape(problem)}</pre>" for problem in said["problems"])
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>pykesto stress: {escape(verdict)}</title><style>{STYLE}</style>
<h1>pykesto stress</h1>
<p class="verdict{"" if said["passed"] else " bad"}"><strong>{escape(verdict)}</strong><br>
{"<br>".join(map(escape, as_text(said)))}</p>
{problems}
<p>{_key(marks)}</p>
{"".join(plots)}
<div class="columns">
{"".join(_table(title, said[name]) for title, name in TABLES)}
</div>
<h2>Again</h2><pre>{escape(command(said["options"]))}</pre>
<p>Python {escape(said["python"])}, {escape(said["machine"])}. The seed repeats what is tried and who is killed, not how
processes meet one another.</p>
<details><summary>Options</summary><pre>{escape(json.dumps(said["options"], indent=2))}</pre></details>
</html>
"""


def command(options: dict[str, Any]) -> str:
    faults = ",".join(f"{name}={amount:g}" for name, amount in options["faults"].items()) or "none"
    parts = [
        f"python -m stress --processes {options['processes']} --seconds {options['seconds']:g}",
        f"--round {options['round_s']:g} --seed {options['seed']} --durability {options['durability']}",
        f"--isolation {options['isolation']} --size {options['size']} --least {options['least']} --faults {faults}",
        f"--workloads {','.join(options['workloads'])}",
    ]
    return " \\\n    ".join([*parts, *([f"--broken {options['broken']}"] if options["broken"] else [])])


def _merged(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Few enough to draw: of several intervals the sums, the medians of medians, and the worst."""
    each = -(-len(samples) // POINTS_MAX) or 1
    joins: dict[str, Callable[[list[Any]], Any]] = {
        "at_s": lambda values: values[0],
        **dict.fromkeys(("commits", "conflicts", "refused"), sum),
        "p50_ms": lambda values: sorted(values)[len(values) // 2],
    }
    merged = []
    for at in range(0, len(samples), each):
        group = samples[at : at + each]
        joined = {}
        for name in group[0]:
            values = [sample[name] for sample in group if sample[name] is not None]
            joined[name] = joins.get(name, max)(values) if values else None
        merged.append(joined)
    return merged


def _plot(
    title: str, at_s: list[float], end_s: float, lines: Iterable[Line], marks: list[dict[str, Any]], *, log: bool
) -> str:
    lines = list(lines)
    every = [value for line in lines for value in line.values if value is not None]
    most = max(every, default=1.0) or 1.0
    least = max(min([value for value in every if value > 0], default=most / 10), most / 1e5) if log else 0.0
    top = (10 ** -(-_log10(most) // 1)) if log else most * 1.05
    bottom = 10 ** (_log10(least) // 1) if log else 0.0

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT) * second / (end_s or 1.0)

    def y(value: float) -> float:
        if log:
            share = (_log10(max(value, bottom)) - _log10(bottom)) / max(1e-9, _log10(top) - _log10(bottom))
        else:
            share = value / top
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share

    ticks = _log_ticks(bottom, top) if log else _ticks(top)
    grid = "".join(
        f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH}" stroke="var(--line)"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        for tick in ticks
    )
    grid += "".join(
        f'<text x="{x(second):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{second:,g} s</text>'
        for second in _ticks(end_s)[1:]
    )
    faults = "".join(_upright(what, group, x) for what, group in _by_kind(marks).items())
    paths = "".join(
        f'<path d="{_path(line, at_s, x, y)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        for line, colour in zip(lines, COLOURS, strict=False)
    )
    names = "".join(
        f'<span class="key" style="background:{colour}"></span>{escape(line.name)}'
        for line, colour in zip(lines, COLOURS, strict=False)
    )
    return (
        f"<h2>{escape(title)}{names}</h2>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{grid}{faults}{paths}</svg>\n'
    )


def _by_kind(marks: list[dict[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for mark in marks:
        found.setdefault(mark["what"], []).append(mark["at_s"])
    return found


def _upright(what: str, at_s: list[float], x: Callable[[float], float]) -> str:
    """All marks of a kind, as one path."""
    lines = "".join(f"M{x(second):.1f} {TOP}V{HEIGHT - BOTTOM}" for second in at_s)
    title = f"<title>{escape(what)}, {len(at_s)} times</title>"
    return f'<path d="{lines}" stroke="{_mark_colour(what)}" opacity=".45">{title}</path>'


def _path(line: Line, at_s: list[float], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    parts, pen = [], "M"
    for second, value in zip(at_s, line.values, strict=True):
        if value is None:
            pen = "M"
        else:
            parts.append(f"{pen}{x(second):.1f} {y(value):.1f}")
            pen = "L"
    return "".join(parts)


def _log10(value: float) -> float:
    import math

    return math.log10(value)


def _ticks(top: float) -> list[float]:
    """Some round numbers from 0 on."""
    step = 10 ** (_log10(top / 5) // 1)
    step *= next((factor for factor in (1, 2, 5, 10) if top / (step * factor) <= 8), 10)
    return [step * n for n in range(int(top / step) + 1)]


def _log_ticks(bottom: float, top: float) -> list[float]:
    first, last = round(_log10(bottom)), round(_log10(top))
    return [10.0**power for power in range(first, last + 1)]


def _mark_colour(what: str) -> str:
    return MARK_COLOURS.get(what, OTHER_MARK)


def _key(marks: list[dict[str, Any]]) -> str:
    if not marks:
        return "Nothing was done to the processes."
    names = [*MARK_COLOURS, *({mark["what"] for mark in marks} - set(MARK_COLOURS) and ["another fault"])]
    parts = [f'<span class="key" style="background:{_mark_colour(name)}"></span>{escape(name)}' for name in names]
    return "Upright lines: " + "".join(parts)


def _table(title: str, counts: dict[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}<td class="n">{count:,}'
        for name, count in sorted(counts.items(), key=lambda item: -item[1])
        if count
    )
    return f"<section><h2>{escape(title)}</h2><table>{rows}</table></section>" if rows else ""
