"""What the workers do, and what must hold of it."""

from .bank import Bank
from .counters import Counters
from .graph import Node, Ring
from .indexes import Things
from .large import Large
from .lists import Lists
from .merged import Merged
from .pages import Page, Pages
from .schema import Schema
from .unique import Unique
from .workload import Said, Step, Workload

# Those whose commits leave a row in the log; what they leave is played again at the end.
LOGGED: dict[str, type[Workload]] = {
    "bank": Bank,
    "counters": Counters,
    "merged": Merged,
    "unique": Unique,
    "graph": Ring,
    "pages": Pages,
    "indexes": Things,
    "schema": Schema,
    "large": Large,
}
# name -> how often a worker takes it, and what it is
WORKLOADS: dict[str, tuple[int, str]] = {
    "lists": (40, "append to lists and read them; the history must be as isolated as was promised"),
    "bank": (10, "move money between accounts; the sum stays"),
    "counters": (10, "add to counters, one of them hot; each total is the sum of its group"),
    "merged": (6, "add to counters, maxima and sets of one hot row whose columns merge; nothing is lost"),
    "unique": (10, "race for names; no two rows have the same"),
    "graph": (8, "relink a ring of objects; it stays one ring, in both directions"),
    "pages": (8, "move pages of a tree about, each with an md5; all match and hang together"),
    "indexes": (12, "change rows with indexes; queries answer what scans answer"),
    "schema": (2, "create and drop indexes and tables under load"),
    "large": (1, "commit thousands of rows, and megabytes, at once; they are there whole or not"),
    "readers": (0, "hold one snapshot for seconds; it never changes"),
    "storms": (0, "processes that open, commit once and end somehow; many that create one database at once"),
    "web": (0, "requests to an application under gunicorn, whose workers are killed too"),
}

__all__ = ["LOGGED", "WORKLOADS", "Lists", "Node", "Page", "Ring", "Said", "Step", "Things", "Workload"]
