"""Named places in the code where a test has the process killed, stopped or failed, and named rules it has broken.

    PYKESTO_FAILPOINTS="journal.append=kill:0.01,checkpoint.*=kill:0.2" python app.py

Rules are NAME=ACTION[:CHANCE], separated by commas; NAME may hold `*` and `?`; CHANCE is a probability for each time
that the place is passed (1). The first rule that names a place counts. Actions:

    kill    the process dies by SIGKILL, there and then
    stop    the process is stopped by SIGSTOP, until somebody continues it
    EIO     or any other name of an errno: the call raises StorageError with it
    off     the rule of that name is not kept: a planted bug, for tests that must find it

The variable is read once, when pykesto is imported; a process inherits it from its parent. A name that is none of
`PLACES` and `RULES` is an error then, so that no test tries nothing.

Cost: callers write `if ACTIVE: hit("journal.append")`. ACTIVE is a constant of the module, so what is left without the
variable is one test of a module's name, about a hundredth of the cheapest Python call; nothing is looked up, nothing
is called, and no place is on the path of a read. There is nothing to build without it.
"""

from __future__ import annotations

import errno
import os
import random
import signal
from fnmatch import fnmatchcase

from .errors import StorageError, UsageError

VARIABLE = "PYKESTO_FAILPOINTS"

PLACES = {
    "journal.append": "a commit is valid, its record is not written",
    "journal.written": "the record is written, and not published",
    "journal.published": "the record is published, and not durable",
    "journal.sync": "a sync is announced, and not begun",
    "journal.synced": "the journal is synced, and nobody knows",
    "journal.roll": "a new segment is in place, and not published",
    "checkpoint.begin": "a base has lost its stamp, and is not written to",
    "checkpoint.write": "a batch of rows was put into a base that has no stamp",
    "checkpoint.stamp": "a base is whole and synced, and has no stamp",
    "checkpoint.manifest": "a base has its stamp, and MANIFEST does not name it",
    "checkpoint.flip": "MANIFEST names a base, and control does not",
    "checkpoint.clean": "a base is current, and what is not needed any more is still there",
    "recovery.begin": "nothing was looked at",
    "recovery.accept": "the journal's end is found, and nothing was written",
    "recovery.segment": "the segment of the new generation is there",
    "recovery.publish": "recovery is through, and nothing is published",
    "view.pin": "a process has seen which base is current, and does not pin it yet",
    "create.manifest": "all of a new database is there but MANIFEST",
}
RULES = {
    "validate.writes": "no row that a commit writes was written since its snapshot",
    "validate.reads": "no row that a serializable commit read was written since its snapshot",
    "validate.predicates": "no row that it asked for by a condition came, went or changed",
    "unique.check": "no two rows have the same unique value",
    "journal.durable": "a commit returns after a sync of the journal",
    "checkpoint.rows": "a base has all rows that were committed up to its mark",
    "recovery.tail": "recovery keeps every record that verifies",
    "recovery.rewrite": "what recovery accepts and can't prove durable is written again before it is synced",
    "recovery.generation": "an unclean end is followed by a new segment in a new generation",
    "sync.again": "who finds a sync that a dead process left writes its records again",
    "sync.patience": "who waits long for a stopped syncer syncs by itself",
    "roll.sync": "a segment is synced to its end before another follows it",
    "record.claims": "a record says how far the journal was durable when it was written",
    "commit.reads": "commit() of a session that only read vouches for what it read",
    "checkpoint.durable": "a base holds nothing that is not durable in the journal",
    "checkpoint.reconcile": "who gets checkpoint.lock publishes a flip that a dead process left out",
    "checkpoint.copies": "a further base is made when readers pin both",
    "checkpoint.reach": "a base that the journal no longer reaches is made by copy",
    "pins.alive": "only live processes pin",
    "pins.again": "who pins a base looks again whether it is still current",
    "stamp.trust": "a base without the stamp that MANIFEST names is never trusted",
    "directory.sync": "a directory is synced after a name in it came, went or changed",
    "whole.sync": "a small file is synced before it takes its place",
    "segment.sync": "a segment is synced before any record goes in",
    "manifest.sync": "one slot of MANIFEST is on disk before the other is written",
    "stamp.remove": "a base loses its stamp before it is written to",
    "base.sync": "the files of a base are synced before it is stamped",
    "mark.withdrawn": "a mark of a clean close is taken back before the next record",
    "overlay.versions": "an overlay keeps each version of a row that a snapshot sees",
    "overlay.indexes": "an overlay indexes what it holds",
    "row.checksum": "a row of a base is behind a checksum, which each read verifies",
    "query.rest": "what an index does not cover is tested on each row",
    "query.pending": "a query sees what its own session changed",
    "codec.end": "bytes that follow a value are refused",
    "codec.members": "a set with a member twice is refused",
    "objects.reached": "what is reachable from an added object is stored with it",
    "objects.referred": "what something refers to is not deleted",
    "objects.known": "an object that was changed or deleted is what its own session finds under its id",
    "validate.before": "a row that left a range conflicts with who asked for the range",
}


def parse(text: str) -> list[tuple[str, str, float]]:
    """(name, action, chance) of each rule; UsageError for one that means nothing."""
    found = []
    for rule in filter(None, map(str.strip, text.split(","))):
        name, _, rest = rule.partition("=")
        action, _, chance = rest.partition(":")
        known = RULES if action == "off" else PLACES
        if not any(fnmatchcase(one, name) for one in known):
            raise UsageError(f"{VARIABLE}: {rule!r} names none of {', '.join(known)}")
        if action not in ("kill", "stop", "off") and not isinstance(getattr(errno, action, None), int):
            raise UsageError(f"{VARIABLE}: {rule!r}: the action is kill, stop, off or an errno such as EIO")
        try:
            found.append((name, action, float(chance or 1)))
        except ValueError:
            raise UsageError(f"{VARIABLE}: {rule!r}: the chance is no number") from None
    return found


_rules = parse(os.environ.get(VARIABLE, ""))
ACTIVE = bool(_rules)


def _meets(name: str, *, broken: bool) -> str | None:
    """The action of the first rule about `name`, if chance has it."""
    for pattern, action, chance in _rules:
        if (action == "off") is broken and fnmatchcase(name, pattern):
            return action if chance >= 1 or random.random() < chance else None
    return None


def hit(name: str) -> None:
    """Pass a place. Called behind `if ACTIVE` only."""
    assert name in PLACES, name
    action = _meets(name, broken=False)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action is not None:
        raise StorageError(f"failpoint {name}: {action}", errno=getattr(errno, action))


def off(name: str) -> bool:
    """Whether a rule is to be broken. Called behind `ACTIVE and` only."""
    assert name in RULES, name
    return _meets(name, broken=True) is not None
