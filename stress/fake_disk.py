"""A disk that loses what was not synced: plays the calls that `record_calls.c` recorded, and builds what a cut leaves.

What a power cut may do, at any call, to what was not synced:

- a write, a change of a file's size, or a created, renamed or removed name is there or not, each apart from the others
- a write is there in part: any of its sectors of 512 bytes; one of them may hold garbage, in the bytes that the write
  was to change and no others
- a name is durable when its directory was synced, not when its file was; a rename is one change
- a file of a base, which is written through mappings, may hold any mix of the sectors of what it held and what it
  is going to hold at its next sync or when it is closed
- `control` holds garbage, and names of lock files are there or not: nothing may depend on them
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<IcQQQII")
_SECTOR = 512
NOTES = "notes"  # in the root: what the recorded processes say, and no power cut takes


@dataclass(frozen=True, slots=True)
class Call:
    """A record: Open, Write, Truncate, Allocate, sync Begun, sync Ended, Closed, Rename, Unlink, Mkdir, rmDir."""

    number: int
    kind: str
    inode: int
    value: int
    path: str
    other: str
    content: bytes


def read_calls(path: Path) -> list[Call]:
    found, log, at = [], path.read_bytes(), 0
    while at < len(log):
        total, kind, number, inode, value, size, other = _HEAD.unpack_from(log, at)
        begin = at + _HEAD.size
        names = log[begin : begin + size + other].decode()
        content = log[begin + size + other : at + total]
        found.append(Call(number, kind.decode(), inode, value, names[:size], names[size:], content))
        at += total
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory (no content) that was there before the first call; all is durable."""

    path: str
    inode: int
    content: bytes | None


def look_at(root: Path) -> list[Found]:
    """All that is there, from the root itself on."""
    paths = [root, *sorted(root.rglob("*"))]
    names = ["", *(str(path.relative_to(root)) for path in paths[1:])]
    return [
        Found(name, path.stat().st_ino, None if path.is_dir() else path.read_bytes())
        for name, path in zip(names, paths, strict=True)
    ]


@dataclass(eq=False, slots=True)
class Change:
    """Something that a sync makes durable: bytes of a file, its size, or names of a directory."""

    number: int  # twice that of the call, or one more for what a mapping is going to hold
    offset: int = 0
    content: bytes = b""
    size: int | None = None  # of the file from now on, or at least
    at_least: bool = False
    whole: bool = False  # the content is the whole file's
    names: dict[str, Node | None] = field(default_factory=dict)
    idle: bool = False  # nothing may depend on it

    @property
    def divisible(self) -> bool:
        return len(self.content) > 1


@dataclass(eq=False, slots=True)
class Node:
    """A file, or a directory where `names` is one; what is durable, and what is not yet."""

    content: bytes = b""
    names: dict[str, Node] | None = None
    pending: list[Change] = field(default_factory=list)

    def sync(self, begun: int, content: bytes | None) -> None:
        """A sync that began with that call has ended; `content`: the whole file's, then, where that was recorded."""
        covered = [change for change in self.pending if change.number // 2 <= begun]
        self.pending = [change for change in self.pending if change.number // 2 > begun]
        if self.names is None:
            self.content = _changed(self.content, covered, {}, random.Random(0)) if content is None else content
        else:
            self.names = _renamed(self.names, covered)

    def newest(self) -> dict[str, Node]:
        return _renamed(self.names or {}, self.pending)


@dataclass(frozen=True, slots=True)
class Cut:
    """Which changes a power cut leaves: all that are named in `kept`; those in `torn` in part, some with garbage."""

    kept: frozenset[int]
    torn: frozenset[int] = frozenset()
    garbage: bool = False


class FakeDisk:
    """What is durable, and what is pending, after the calls that were played so far."""

    root: Node

    def __init__(self, files: list[Found]) -> None:
        self._inodes: dict[int, Node] = {}
        self._upcoming: dict[int, list[Call]] = {}
        self._syncing: dict[int, bytes] = {}  # by the calls with which syncs began: what a mapped file held
        for found in files:
            node = self._inodes[found.inode] = Node(found.content or b"", {} if found.content is None else None)
            if found.path:
                directory, name = self._directory(found.path)
                assert directory.names is not None
                directory.names[name] = node
            else:
                self.root = node

    def play(self, calls: Sequence[Call]) -> Iterator[Call]:
        """Play the calls, one by one; yields each after which a power cut is a case of its own."""
        for call in calls:
            if _tells_all(call):
                self._upcoming.setdefault(call.inode, []).append(call)
        for call in calls:
            self._one(call)
            if call.kind not in "BE":
                yield call

    def _one(self, call: Call) -> None:
        if call.kind in "ORUMD":
            self._name(call)
        elif call.kind in "WTA":
            self._inodes[call.inode].pending.append(_change_of(call))
        elif call.kind == "E":
            self._inodes[call.inode].sync(call.value, self._syncing.pop(call.value, None))
        if _tells_all(call):
            if call.kind == "B":
                self._syncing[call.number] = call.content
            self._upcoming[call.inode].pop(0)
            self._will_hold(call, call.content)
        elif call.kind == "O" and self._upcoming.get(call.inode):
            self._will_hold(call, self._upcoming[call.inode][0].content)

    def _will_hold(self, call: Call, content: bytes) -> None:
        """A file that is open for writing may already hold anything of what it will hold at its next sync or close."""
        node = self._inodes[call.inode]
        newest = next((change.content for change in reversed(node.pending) if change.whole), node.content)
        if content != newest:
            node.pending.append(Change(2 * call.number + 1, content=content, whole=True))

    def _name(self, call: Call) -> None:
        if call.kind == "R":
            directory, name = self._directory(call.path)
            moved = directory.newest()[name]
            new = call.other.rpartition("/")[2]
            directory.pending.append(Change(2 * call.number, names={name: None, new: moved}))
        elif call.kind in "UD":
            directory, name = self._directory(call.path)
            directory.pending.append(Change(2 * call.number, names={name: None}, idle=_idle(name)))
        elif call.kind == "M" or call.value == 1:
            directory, name = self._directory(call.path)
            node = self._inodes[call.inode] = Node(names={} if call.kind == "M" else None)
            idle = _idle(name) or call.path.rpartition("/")[0].endswith("attached")
            directory.pending.append(Change(2 * call.number, names={name: node}, idle=idle))

    def _directory(self, path: str) -> tuple[Node, str]:
        *folders, name = path.split("/")
        node = self.root
        for folder in folders:
            node = node.newest()[folder]
        return node, name

    def pending(self) -> list[Change]:
        """What a power cut may take, and matters."""
        found: list[Change] = []
        seen: set[int] = set()
        _pending(self.root, found, seen)
        return sorted(found, key=lambda change: change.number)

    def build(self, directory: Path, cut: Cut, chance: random.Random) -> None:
        """Make the files that a cut leaves, in a directory that is not there yet."""
        _build(self.root, directory, cut, chance)


def cuts(pending: list[Change], chance: random.Random, *, bound: int, samples: int) -> list[Cut]:
    """What may be left of the pending changes: every subset if they are `bound` or fewer; else none, all, each alone,
    all but each, and random ones; and each of the newest torn, with the others and alone, with garbage and without.
    """
    numbers = [change.number for change in pending]
    everything = frozenset(numbers)
    if len(numbers) <= bound:
        found = [
            Cut(frozenset(n for i, n in enumerate(numbers) if which >> i & 1)) for which in range(1 << len(numbers))
        ]
    else:
        found = [Cut(frozenset()), Cut(everything)]
        found += [Cut(frozenset([n])) for n in numbers] + [Cut(everything - {n}) for n in numbers]
        found += [Cut(frozenset(n for n in numbers if chance.random() < 0.5)) for _ in range(samples)]
    for change in [change for change in pending if change.divisible][-bound:]:
        for others in (everything, frozenset[int]()):
            for garbage in (False, True):
                found.append(Cut(others | {change.number}, frozenset([change.number]), garbage))
    if len(numbers) > 1:
        found += [Cut(everything, everything, garbage) for garbage in (False, True)]
    return found


def _pending(node: Node, found: list[Change], seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    found += [change for change in node.pending if not change.idle]
    for name, child in [*(node.names or {}).items(), *node.newest().items()]:
        if name != NOTES:
            _pending(child, found, seen)


def _idle(name: str) -> bool:
    return name.endswith(".lock") or name in ("control", "attached", NOTES)


def _tells_all(call: Call) -> bool:
    """Whether a record has the whole content of a file that is written through mappings."""
    return call.value == 1 and call.kind in "BC"


def _change_of(call: Call) -> Change:
    if call.kind == "W":
        return Change(2 * call.number, call.value, call.content)
    return Change(2 * call.number, size=call.value, at_least=call.kind == "A")


def _renamed(names: dict[str, Node], changes: list[Change]) -> dict[str, Node]:
    found: dict[str, Node | None] = dict(names)
    for change in changes:
        found.update(change.names)
    return {name: node for name, node in found.items() if node is not None}


def _changed(content: bytes, changes: list[Change], torn: dict[int, bool], chance: random.Random) -> bytes:
    """`torn`: the number of a change -> whether one of its sectors holds garbage."""
    held = bytearray(content)
    for change in changes:
        if change.size is not None:
            if len(held) > change.size and not change.at_least:
                del held[change.size :]
            held.extend(bytes(max(0, change.size - len(held))))
        elif change.number in torn:
            _tear(held, change, torn[change.number], chance)
        elif change.whole:
            held[:] = change.content
        else:
            _put(held, change.offset, change.content)
    return bytes(held)


def _put(held: bytearray, offset: int, content: bytes) -> None:
    if len(held) < offset:
        held.extend(bytes(offset - len(held)))
    held[offset : offset + len(content)] = content


def _tear(held: bytearray, change: Change, garbage: bool, chance: random.Random) -> None:
    begin, end = change.offset, change.offset + len(change.content)
    edges = [begin, *range((begin // _SECTOR + 1) * _SECTOR, end, _SECTOR), end]
    likely = chance.random()
    kept = [i for i in range(len(edges) - 1) if chance.random() < likely]
    spoilt = chance.choice(kept) if garbage and kept else None
    for i in kept:
        part = change.content[edges[i] - begin : edges[i + 1] - begin]
        if i == spoilt:
            before = held[edges[i] : edges[i + 1]].ljust(len(part), b"\0")
            part = bytes(new if new == old else chance.randrange(256) for new, old in zip(part, before, strict=True))
        _put(held, edges[i], part)


def _build(node: Node, path: Path, cut: Cut, chance: random.Random) -> None:
    kept = [change for change in node.pending if change.number in cut.kept or (change.idle and chance.random() < 0.5)]
    if node.names is not None:
        path.mkdir()
        for name, child in _renamed(node.names, kept).items():
            if name != NOTES:
                _build(child, path / name, cut, chance)
    elif path.name == "control":
        path.write_bytes(chance.randbytes(chance.choice((0, 4096, 70_000))))
    else:
        path.write_bytes(_changed(node.content, kept, dict.fromkeys(cut.torn, cut.garbage), chance))
