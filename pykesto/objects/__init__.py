"""Persistent objects: classes, references, identity, and queries over them."""

from .persistent import Persistent, field
from .session import ObjectSession

__all__ = ["ObjectSession", "Persistent", "field"]
