from pathlib import Path

from typing_extensions import disjoint_base

from .engine.attachments import Attachment
from .objects import Catalog, ObjectSession
from .session import Options
from .store import Durability, Isolation

@disjoint_base
class DatabaseCore:
    _options: Options
    _attachment: Attachment
    _catalog: Catalog
    _closed: bool
    _contended: int
    def __init__(self, path: Path, options: Options) -> None: ...
    @property
    def path(self) -> Path: ...
    def session(
        self,
        *,
        read_only: bool = False,
        isolation: Isolation | None = None,
        durability: Durability | None = None,
        note: str | None = None,
        token_key: bytes | None = None,
    ) -> ObjectSession: ...
    def transaction(
        self,
        *,
        read_only: bool = False,
        isolation: Isolation | None = None,
        durability: Durability | None = None,
        note: str | None = None,
        token_key: bytes | None = None,
    ) -> ObjectSession: ...
    def _terms(
        self,
        read_only: bool,
        isolation: Isolation | None,
        durability: Durability | None,
        token_key: bytes | None,
    ) -> Options: ...
    def _attached(self) -> Attachment: ...
