"""Graphs of objects against plain Python ones, through commits, rollbacks, reopening, other processes and new code."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import pykesto
from pykesto import col
from tests.processes import Worker

UNCHANGED = """\
    friends: list = pykesto.field(default_factory=list)
    tags: set = pykesto.field(default_factory=set)
    visits: int = pykesto.field(merge="counter", default=0)
    boss: "Node" = pykesto.field(on_delete="nullify", default=None)
"""
RELEASES = [
    f"""
class Node(pykesto.Persistent, name="graph.Node"):
    label: int = pykesto.field(index=True)
    weight: int = pykesto.field(index=True, default=0)
{UNCHANGED}""",
    f"""
class Node(pykesto.Persistent, name="graph.Node"):
    label: int = pykesto.field(index=True)
    heaviness: int = pykesto.field(index=True, default=0, was="weight")
{UNCHANGED}""",
    f"""
class Node(pykesto.Persistent, name="graph.Knot", formerly="graph.Node"):
    label: int = pykesto.field(index=True)
    heaviness: int = pykesto.field(index=True, default=0, was="weight")
{UNCHANGED}    parity: int

    @pykesto.upgrade(from_version=1)
    def _add_parity(self):
        self.parity = self.label % 2
""",
]
BELOW = """
class Leaf(Node, name="graph.Leaf"):
    colour: str = "green"
"""


def release(number: int) -> Any:
    """The classes of one release of a program. Those of later ones replace those of earlier ones."""
    from pykesto.objects import registry

    for name in [name for name in registry.classes if name.startswith("graph.")]:
        del registry.classes[name]
    names: dict[str, Any] = {"pykesto": pykesto, "__name__": __name__}
    exec(RELEASES[number] + BELOW, names)
    weight = "weight" if number == 0 else "heaviness"

    def made(label: int, *, leaf: bool = False, **more: Any) -> Any:
        if number == 2:
            more["parity"] = label % 2
        return names["Leaf" if leaf else "Node"](label=label, **more)

    return SimpleNamespace(Node=names["Node"], Leaf=names["Leaf"], weight=weight, made=made)


def change_elsewhere(here: SimpleNamespace, path: str, number: int, label: int, weight: int) -> None:
    """In another process: a node is given a weight, and is befriended by a new one."""
    code = release(number)
    with pykesto.open(path, durability="process") as db, db.transaction() as s:
        node = s.query(code.Node).where(code.Node.label == label).one()
        setattr(node, code.weight, weight)
        s.add(code.made(1000 + label + weight, leaf=True, friends=[node]))


def visit_elsewhere(here: SimpleNamespace, path: str, number: int, label: int) -> None:
    code = release(number)
    with pykesto.open(path, durability="process") as db, db.transaction() as s:
        s.query(code.Node).where(code.Node.label == label).one().visits += 1


class Plain:
    """A node in plain Python."""

    def __init__(self, label: int, *, leaf: bool) -> None:
        self.label, self.leaf, self.weight = label, leaf, 0
        self.friends: list[Plain] = []
        self.boss: Plain | None = None
        self.tags: set[int] = set()
        self.visits = 0

    def told(self) -> tuple[Any, ...]:
        friends = [friend.label for friend in self.friends]
        return self.leaf, self.weight, self.tags, self.visits, friends, self.boss and self.boss.label


def copied(nodes: dict[int, Plain]) -> dict[int, Plain]:
    made = {label: Plain(label, leaf=node.leaf) for label, node in nodes.items()}
    for label, node in nodes.items():
        made[label].weight, made[label].visits, made[label].tags = node.weight, node.visits, set(node.tags)
        made[label].friends = [made[f.label] for f in node.friends]
        made[label].boss = made[node.boss.label] if node.boss else None
    return made


class Graphs(RuleBasedStateMachine):
    """One session's view; what it has not committed is `nodes` beyond `committed`."""

    worker: Worker

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "graph.kesto"
        self.number = 0
        self.code = release(0)
        self.db = pykesto.open(self.path, durability="process")
        self.session = self.db.session()
        self.nodes: dict[int, Plain] = {}
        self.committed: dict[int, Plain] = {}
        self.next = 0

    def teardown(self) -> None:
        self.session.close()
        assert self.db.check().problems == ()
        self.db.close()
        self.directory.cleanup()

    def node(self, label: int) -> Any:
        return self.session.query(self.code.Node).where(self.code.Node.label == label).one()

    def some(self, data: Any) -> int:
        return int(data.draw(st.sampled_from(sorted(self.nodes))))

    # Changes

    @rule(leaf=st.booleans())
    def create(self, leaf: bool) -> None:
        self.session.add(self.code.made(self.next, leaf=leaf))
        self.nodes[self.next] = Plain(self.next, leaf=leaf)
        self.next += 1

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def create_by_reaching(self, data: Any) -> None:
        label = self.some(data)
        self.node(label).friends.append(self.code.made(self.next))
        made = self.nodes[self.next] = Plain(self.next, leaf=False)
        self.nodes[label].friends.append(made)
        self.next += 1

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), boss=st.booleans())
    def link(self, data: Any, boss: bool) -> None:
        one, other = self.some(data), self.some(data)
        if boss:
            self.node(one).boss = self.node(other)
            self.nodes[one].boss = self.nodes[other]
        else:
            self.node(one).friends.append(self.node(other))
            self.nodes[one].friends.append(self.nodes[other])

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def unlink(self, data: Any) -> None:
        label = self.some(data)
        node, plain = self.node(label), self.nodes[label]
        node.boss = plain.boss = None
        node.friends, plain.friends = node.friends[1:], plain.friends[1:]

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), weight=st.integers(0, 9))
    def weigh(self, data: Any, weight: int) -> None:
        label = self.some(data)
        setattr(self.node(label), self.code.weight, weight)
        self.nodes[label].weight = weight

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), tag=st.integers(0, 3), add=st.booleans())
    def tag(self, data: Any, tag: int, add: bool) -> None:
        """Changed in place."""
        label = self.some(data)
        for tags in self.node(label).tags, self.nodes[label].tags:
            tags.add(tag) if add else tags.discard(tag)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), weight=st.integers(0, 9))
    def edit_detached(self, data: Any, weight: int) -> None:
        """Taken out of the session, changed, and merged back into it."""
        label = self.some(data)
        self.commit()
        node = self.node(label)
        self.session.detach(node)
        setattr(node, self.code.weight, weight)
        self.nodes[label].weight = weight
        assert self.session.merge(node) is self.node(label) is not node

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), again=st.booleans())
    def refresh(self, data: Any, again: bool) -> None:
        """What is not committed of one node is dropped."""
        self.commit()
        node = self.node(self.some(data))
        setattr(node, self.code.weight, 77)
        node.tags.add(77)
        self.session.refresh(node)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        label = self.some(data)
        node, plain = self.node(label), self.nodes.pop(label)
        for other in self.nodes.values():
            if plain in other.friends:
                self.node(other.label).friends = [f for f in self.node(other.label).friends if f is not node]
                other.friends = [f for f in other.friends if f is not plain]
            if other.boss is plain:
                other.boss = None  # as declared
        self.session.delete(node)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def fail_in_a_savepoint(self, data: Any) -> None:
        label = self.some(data)
        try:
            with self.session.savepoint():
                self.node(label).friends.append(self.code.made(-1))
                self.session.delete(self.node(label))
                raise KeyError
        except KeyError:
            pass

    # Ends of transactions, and other sessions

    @rule()
    def commit(self) -> None:
        self.session.commit()
        self.committed = copied(self.nodes)

    @rule()
    def roll_back(self) -> None:
        self.session.rollback()
        self.nodes = copied(self.committed)

    @rule(checkpoint=st.booleans(), data=st.data())
    def reopen(self, checkpoint: bool, data: Any) -> None:
        """With the same code, or that of a later release."""
        self.commit()
        self.session.close()
        if checkpoint:
            self.db.checkpoint()
        self.db.close()
        self.number = data.draw(st.integers(self.number, len(RELEASES) - 1))
        self.code = release(self.number)
        self.db = pykesto.open(self.path, durability="process")
        self.session = self.db.session()

    @precondition(lambda self: self.number == 2)
    @rule()
    def upgrade_all(self) -> None:
        self.commit()
        self.db.upgrade(self.code.Node)
        self.session.rollback()

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), weight=st.integers(10, 99))
    def change_in_another_process(self, data: Any, weight: int) -> None:
        self.commit()
        label = self.some(data)
        added = 1000 + label + weight
        if added in self.nodes:
            return
        self.worker.call(change_elsewhere, str(self.path), self.number, label, weight)
        self.session.rollback()
        self.nodes[label].weight = weight
        self.nodes[added] = Plain(added, leaf=True)
        self.nodes[added].friends = [self.nodes[label]]
        self.next = max(self.next, added + 1)
        self.committed = copied(self.nodes)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def meet_another_process(self, data: Any) -> None:
        """Both change one node: visits go together, weights conflict and are undone here."""
        label = self.some(data)
        self.node(label).visits += 1  # an object of an older release is upgraded by this: a change that doesn't merge
        self.nodes[label].visits += 1
        self.commit()
        self.node(label).visits += 1
        self.worker.call(visit_elsewhere, str(self.path), self.number, label)
        self.session.commit()
        self.nodes[label].visits += 2
        self.committed = copied(self.nodes)
        setattr(self.node(label), self.code.weight, 88)
        self.worker.call(visit_elsewhere, str(self.path), self.number, label)
        with pytest.raises(pykesto.ConcurrencyConflict):
            self.session.commit()
        self.session.rollback()
        self.nodes[label].visits += 1
        self.committed = copied(self.nodes)

    # What is seen

    @invariant()
    def the_graph_is_the_same(self) -> None:
        found = {node.label: node for node in self.session.query(self.code.Node)}
        assert found.keys() == self.nodes.keys()
        for label, node in found.items():
            seen = (
                isinstance(node, self.code.Leaf),
                getattr(node, self.code.weight),
                node.tags,
                node.visits,
                [friend.label for friend in node.friends],
                node.boss and node.boss.label,
            )
            assert seen == self.nodes[label].told()
            assert all(friend is found[friend.label] for friend in node.friends)
            if self.number == 2:
                assert node.parity == label % 2

    @rule(limit=st.integers(0, 12))
    def ask(self, limit: int) -> None:
        query, weight = self.session.query(self.code.Node), self.code.weight

        def labels(found: Any) -> list[int]:
            return sorted(node.label for node in found)

        def expected(test: Any) -> list[int]:
            return sorted(plain.label for plain in self.nodes.values() if test(plain))

        assert labels(query.where(col(weight) >= limit)) == expected(lambda p: p.weight >= limit) or self.number
        assert labels(query.where(lambda n: getattr(n, weight) >= limit and n.boss is None)) == expected(
            lambda p: p.weight >= limit and p.boss is None
        )
        assert labels(query.where(getattr(self.code.Node, weight) < limit)) == expected(lambda p: p.weight < limit)
        boss = self.code.Node.boss.weight  # stored so in all releases
        assert labels(query.where(boss >= limit)) == expected(lambda p: p.boss is not None and p.boss.weight >= limit)
        friends = col(self.code.Node.friends).any(getattr(self.code.Node, weight) >= limit)
        assert labels(query.where(friends)) == expected(lambda p: any(f.weight >= limit for f in p.friends))
        assert labels(self.session.query(self.code.Leaf)) == expected(lambda p: p.leaf)
        assert labels(query.where(col("tags").contains(limit))) == expected(lambda p: limit in p.tags)
        if self.nodes:
            node = query.order_by("label").first()
            plain = self.nodes[node.label]
            assert labels(self.session.referrers(node, self.code.Node.boss)) == expected(lambda p: p.boss is plain)
            assert labels(self.session.referrers(node, "friends")) == expected(lambda p: plain in p.friends)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.end()


def test_graphs_are_what_plain_objects_are(worker: Worker) -> None:
    Graphs.worker = worker
    run_state_machine_as_test(Graphs, settings=settings(max_examples=10, stateful_step_count=15, deadline=None))  # type: ignore[no-untyped-call]
