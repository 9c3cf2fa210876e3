"""The options of a run, and the tables of faults that they choose from."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .workloads import WORKLOADS

# name -> (usual amount, what the amount is, what happens)
FAULTS: dict[str, tuple[float, str, str]] = {
    "kill": (1.0, "mean seconds between two", "SIGKILL of one process"),
    "stop": (5.0, "mean seconds between two", "SIGSTOP of one process for up to two seconds, then SIGCONT or SIGKILL"),
    "failpoints": (0.3, "share of the workers", "workers that kill themselves in the midst of commits and checkpoints"),
    "recovery": (1.0, "mean number in a round", "recoveries that are killed at a random step"),
    "io": (0.15, "share of the workers", "workers some of whose system calls fail, or write and read less than asked"),
    "sync": (0.15, "share of the rounds", "a sync of the journal that fails; all must refuse to commit from then on"),
    "full": (
        0.0,
        "mean seconds between two",
        "the file system is full for a moment (a small one of its own; root only)",
    ),
    "torn": (1.0, "mean number in a round", "copies whose journal is torn behind the last acknowledged commit"),
    "flip": (2.0, "mean number in a round", "copies in one of whose files one bit is flipped"),
    "fork": (0.002, "chance of each step", "a fork in the midst of a transaction, whose child goes on too"),
    "memory": (0.1, "share of the workers", "workers that may have only little more memory"),
    "clock": (0.1, "share of the workers", "workers whose clock jumps by hours, forth and back"),
}
USUAL = "kill,stop,failpoints,recovery,fork,torn"
NAMED = {"none": "", "usual": USUAL, "all": ",".join(FAULTS)}


@dataclass(frozen=True)
class Options:
    """What a run is to do. Faults are amounts by name; those not named don't happen."""

    processes: int = 4
    seconds: float = 10.0
    round_s: float = 10.0
    seed: int = 0
    durability: str = "full"
    isolation: str = "serializable"
    size: int = 1
    least: int = 1
    faults: dict[str, float] = field(default_factory=dict)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    broken: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    convert.__name__ = "number" if kind is float else "whole number"
    return convert


def faults(text: str) -> dict[str, float]:
    """`usual,io=0.5,kill=0`: names of faults or of groups of them, with amounts where the usual one won't do."""
    found: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, amount = item.partition("=")
        if name in NAMED and not amount:
            found |= faults(NAMED[name])
        elif name in FAULTS:
            usual = FAULTS[name][0] or 10.0
            try:
                found[name] = float(amount) if amount else usual
            except ValueError:
                raise argparse.ArgumentTypeError(f"{item}: the amount is no number") from None
        else:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join([*NAMED, *FAULTS])}")
    return {name: amount for name, amount in found.items() if amount > 0}


def workloads(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    if wrong := [name for name in names if name not in WORKLOADS]:
        raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: the workloads are {', '.join(WORKLOADS)}")
    if not any(WORKLOADS[name][0] for name in names):
        raise argparse.ArgumentTypeError("choose one at least that workers do")
    return names


def table(title: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([f"{title}:", *(f"  {name:{width}}  {text}" for name, text in rows.items())])


def parser(description: str) -> argparse.ArgumentParser:
    about_faults = {name: f"{what} ({kind}; {usual or 10:g})" for name, (usual, kind, what) in FAULTS.items()}
    epilog = "\n\n".join(
        [
            table("faults, with what their amount is, and the usual amount", about_faults),
            table("groups of faults", {name: text or "no faults" for name, text in NAMED.items()}),
            table("workloads", {name: text for name, (_, text) in WORKLOADS.items()}),
        ]
    )
    made = argparse.ArgumentParser(
        prog="python -m stress",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--processes", type=number(int, 1, 500), default=4, metavar="N", help="workers at a time (4)")
    add("--seconds", type=number(float, 0.5, 1e6), default=10.0, metavar="S", help="how long they run (10)")
    rounds = "after so many seconds all are killed, and all is verified (10)"
    add("--round", type=number(float, 0.5, 1e6), default=10.0, metavar="S", dest="round_s", help=rounds)
    add("--seed", type=number(int, 0, 2**63), metavar="N", help="of what is tried and who is killed (a random one)")
    add("--durability", choices=["full", "process"], default="full", help="of the commits (full)")
    add("--isolation", choices=["serializable", "snapshot"], default="serializable", help="(serializable)")
    add("--faults", type=faults, default=faults("usual"), metavar="LIST", help="such as all,kill=0.2 (usual)")
    add("--workloads", type=workloads, default=tuple(WORKLOADS), metavar="LIST", help="such as lists,bank (all)")
    add("--size", type=number(int, 1, 10_000), default=1, metavar="N", help="times 200 rows to begin with (1)")
    least = "a round goes on until so many transactions were committed in it, up to two minutes longer (1)"
    add("--least", type=number(int, 1, 10**9), default=1, metavar="N", help=least)
    broken = "rules of the database to break, as PYKESTO_FAILPOINTS names them: the run should fail"
    add("--broken", default="", metavar="RULES", help=broken)
    add("--path", type=Path, help="a new directory for the database, which is kept (a temporary one)")
    add("--html", type=Path, metavar="FILE", help="write the report as a page, too")
    add("--json", action="store_true", help="print one JSON object at the end, and nothing else")
    return made
