"""What the workers do, and what must hold of it."""

from .bank import Bank
from .graph import Node, Ring
from .unique import Unique
from .workload import Said, Step, Workload

WORKLOADS: dict[str, type[Workload]] = {"bank": Bank, "unique": Unique, "graph": Ring}

__all__ = ["WORKLOADS", "Bank", "Node", "Ring", "Said", "Step", "Unique", "Workload"]
