"""Conditions on columns, and queries over rows or objects."""

from .aggregates import agg
from .expressions import Column, Condition, col
from .query import Query
from .search import Hit

__all__ = ["Column", "Condition", "Hit", "Query", "agg", "col"]
