"""Conditions on columns, and queries over rows or objects."""

from .aggregates import agg
from .expressions import Column, Condition, col
from .query import Query

__all__ = ["Column", "Condition", "Query", "agg", "col"]
