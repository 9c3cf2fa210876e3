"""The redo journal: segments of checksummed, chained records; group sync; tailing; recovery.

A record is opaque here. What a record means, and who may append one, is the engine's business.
The bytes are specified in docs/journal.md.
"""

from .format import Mark
from .reader import Reader
from .records import Record
from .recovery import Recovered, create, is_empty, recover
from .segment import Segment
from .segments import SegmentGone, Segments
from .state import JournalState
from .sync import GroupSync
from .writer import Writer

__all__ = [
    "GroupSync",
    "JournalState",
    "Mark",
    "Reader",
    "Record",
    "Recovered",
    "Segment",
    "SegmentGone",
    "Segments",
    "Writer",
    "create",
    "is_empty",
    "recover",
]
