"""Conditions on columns, and queries over rows or objects."""

from .expressions import Column, Condition, agg, col
from .query import Query

__all__ = ["Column", "Condition", "Query", "agg", "col"]
