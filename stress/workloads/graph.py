"""Objects that refer to each other, changed several at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Said, Step


class Node(pykesto.Persistent, name="stress.Node"):
    """One place in the ring."""

    label: int = pykesto.field(index=True)
    prev: Node = pykesto.field(default=None)
    next: Node = pykesto.field(default=None)


class Ring:
    """Objects linked in a ring, moved about in it and replaced: every snapshot sees one whole ring."""

    SIZE = 20

    def __init__(self) -> None:
        self.labels: list[int] = []

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        nodes = [Node(label=label) for label in range(Ring.SIZE)]
        for at, node in enumerate(nodes):
            node.prev, node.next = nodes[at - 1], nodes[(at + 1) % Ring.SIZE]
        s.root["ring"] = nodes[0]

    @staticmethod
    def choose(chance: random.Random) -> Said:
        node, after = chance.sample(range(Ring.SIZE), 2)
        return {"node": node, "after": None if chance.random() < 0.2 else after}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        """Move a node behind another one, or put a new one in its place."""
        node = s.query(Node).where(Node.label == said["node"]).one()
        node.prev.next, node.next.prev = node.next, node.prev
        if said["after"] is None:
            before, moved = node.prev, Node(label=node.label)
            s.delete(node)
        else:
            before, moved = s.query(Node).where(Node.label == said["after"]).one(), node
        moved.prev, moved.next = before, before.next
        before.next.prev = before.next = moved
        if said["after"] is None and said["node"] == 0:
            s.root["ring"] = moved

    @staticmethod
    def around(s: pykesto.Session) -> list[Node]:
        """The nodes from the root on, at most one more than there should be."""
        nodes = [s.root["ring"]]
        while len(nodes) <= Ring.SIZE and nodes[-1].next is not nodes[0]:
            nodes.append(nodes[-1].next)
        return nodes

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        nodes = Ring.around(s)
        if sorted(node.label for node in nodes) != list(range(Ring.SIZE)) or nodes[0].label != 0:
            yield f"graph: the ring is {[node.label for node in nodes]}"
        for at, node in enumerate(nodes):
            if node.prev is not nodes[at - 1]:
                yield f"graph: before {node.label} is {node.prev.label}, and not {nodes[at - 1].label}"
        if (count := s.query(Node).count()) != Ring.SIZE:
            yield f"graph: there are {count} nodes, not {Ring.SIZE}"

    def load(self, s: pykesto.Session) -> None:
        self.labels = [node.label for node in Ring.around(s)]

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        if said["after"] is not None:
            self.labels.remove(said["node"])
            self.labels.insert(self.labels.index(said["after"]) + 1, said["node"])
        yield from ()

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        found = [node.label for node in Ring.around(s)]
        begin = self.labels.index(0)
        if found != (expected := self.labels[begin:] + self.labels[:begin]):
            yield f"graph: the ring is {found}, its log leads to {expected}"
