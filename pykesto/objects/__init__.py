"""Persistent objects: classes, references, identity, and queries over them."""

from .blobs import Blob
from .catalog import Catalog
from .containers import PersistentCounter, PersistentDict, PersistentSet
from .events import on
from .evolution import upgrade
from .fields import UNSET as Unset
from .fields import field
from .life import is_loaded, state_of, url_of
from .persistent import Generic, Persistent
from .plain import persistent
from .sequence import PersistentList
from .session import ObjectSession

__all__ = [
    "Blob",
    "Catalog",
    "Generic",
    "ObjectSession",
    "Persistent",
    "PersistentCounter",
    "PersistentDict",
    "PersistentList",
    "PersistentSet",
    "Unset",
    "field",
    "is_loaded",
    "on",
    "persistent",
    "state_of",
    "upgrade",
    "url_of",
]
