from typing import Final, final

from ..store import IndexDefinition
from .ordered import Ordered

@final
class Hidden: ...

@final
class Listed:
    definition: Final[IndexDefinition]
    entries: Final[Ordered]
    def __init__(self, definition: IndexDefinition) -> None: ...
