"""The four kinds of value that an expression can have."""

from enum import StrEnum
from typing import Literal, TypeAlias

Semantics: TypeAlias = Literal[2, 3]
"""Whose PromQL: that of Prometheus 3.x or of 2.42."""


class ValueType(StrEnum):
    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"

    @property
    def documented(self) -> str:
        """The name that users know: `instant vector`, not `vector`."""
        return _DOCUMENTED.get(self, self.value)


_DOCUMENTED = {ValueType.VECTOR: "instant vector", ValueType.MATRIX: "range vector"}
