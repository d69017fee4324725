"""Types of IR values. REAL is the float type a backend or `interpret` chooses at the end."""

from enum import Enum


class Type(Enum):
    """The type of a scalar value."""

    REAL = "real"
    BOOL = "bool"


REAL, BOOL = Type.REAL, Type.BOOL
