"""What `update` computes: `col("n") * 2 + col("m")`, of the old values of each row."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Arithmetic:
    """What an `update` can compute with: columns, and what was computed of them."""

    __slots__ = ()

    def _of(self, old: Callable[[Any], Any]) -> Any:
        """What it is in one row: `old` gives a column's value there, None where it is missing."""
        raise NotImplementedError

    def __add__(self, other: Any) -> Computed:
        return Computed(operator.add, self, other)

    def __radd__(self, other: Any) -> Computed:
        return Computed(operator.add, other, self)

    def __sub__(self, other: Any) -> Computed:
        return Computed(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Computed:
        return Computed(operator.sub, other, self)

    def __mul__(self, other: Any) -> Computed:
        return Computed(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Computed:
        return Computed(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Computed:
        return Computed(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Computed:
        return Computed(operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Computed:
        return Computed(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Any) -> Computed:
        return Computed(operator.floordiv, other, self)

    def __mod__(self, other: Any) -> Computed:
        return Computed(operator.mod, self, other)

    def __rmod__(self, other: Any) -> Computed:
        return Computed(operator.mod, other, self)


@dataclass(frozen=True, slots=True)
class Computed(Arithmetic):
    """A new value from the old ones of its row; None where one of these is None or missing."""

    compute: Callable[[Any, Any], Any]
    left: Any
    right: Any

    def _of(self, old: Callable[[Any], Any]) -> Any:
        left, right = computed(self.left, old), computed(self.right, old)
        return None if left is None or right is None else self.compute(left, right)


def computed(operand: Any, old: Callable[[Any], Any]) -> Any:
    """What an operand of an update is in one row; a value is itself."""
    return operand._of(old) if isinstance(operand, Arithmetic) else operand
