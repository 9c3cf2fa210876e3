"""Directed graphs whose edges have kinds (bits): strong components, reachability, shortest ways. Plain Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import TypeVar

N = TypeVar("N", bound=Hashable)
Successors = Callable[[N], Iterable[N]]


def components(nodes: Iterable[N], successors: Successors[N]) -> Iterator[list[N]]:
    """The strong components, each after all that can be reached from it (Tarjan, 1972, without recursion)."""
    index: dict[N, int] = {}
    low: dict[N, int] = {}
    stack: list[N] = []
    on_stack: set[N] = set()
    for root in nodes:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(successors(root)))]
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(successors(other))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                        if component[-1] == node:
                            break
                    yield component


def knots(nodes: Iterable[N], successors: Successors[N]) -> list[list[N]]:
    """The components of more than one node: each has cycles. There are no edges from a node to itself here."""
    return [component for component in components(nodes, successors) if len(component) > 1]


def way(start: N, goal: N, successors: Successors[N]) -> list[N] | None:
    """A shortest way from start to goal, both included; of one edge at least, also where they are the same."""
    came_from: dict[N, N] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for other in successors(node):
            if other == goal:
                path = [goal, node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if other not in came_from and other != start:
                came_from[other] = node
                queue.append(other)
    return None


class Reach:
    """Which nodes can be reached from which, in a graph of some thousand nodes: one bit each."""

    def __init__(self, nodes: Collection[N], successors: Successors[N]) -> None:
        self._number: dict[Hashable, int] = {node: at for at, node in enumerate(nodes)}
        self._reached: dict[Hashable, int] = {}
        for component in components(nodes, successors):
            bits = 0
            if len(component) > 1:
                for node in component:
                    bits |= 1 << self._number[node]
            for node in component:
                for other in successors(node):
                    bits |= 1 << self._number[other] | self._reached.get(other, 0)
            for node in component:
                self._reached[node] = bits

    def __call__(self, start: Hashable, goal: Hashable) -> bool:
        return bool(self._reached[start] >> self._number[goal] & 1)
