"""The closed sets of the IR: operators, functions, phases of a Let, roles of a port."""

from enum import Enum


class UnaryOp(Enum):
    """Operators of one operand."""

    NEG = "-"
    NOT = "not"


class BinaryOp(Enum):
    """Operators of two operands."""

    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"
    AND = "and"
    OR = "or"


class CompareOp(Enum):
    """Comparisons; every one but NE is false where an operand is NaN."""

    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "=="
    NE = "!="


class Fn(Enum):
    """Functions that a backend may know."""

    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    SIN = "sin"
    COS = "cos"


class Phase(Enum):
    """Where a Let comes from; printed as a comment."""

    PREPARE = "prepare"
    CHARGE = "charge"
    FIRE = "fire"
    RESET = "reset"
    OUTPUT = "output"
    ADJOINT = "adjoint"


class Role(Enum):
    """What a port carries."""

    STATE = "state"
    INPUT = "input"
    PARAM = "param"
    OUTPUT = "output"
    GRAD = "grad"
    COUNT = "count"  # summed over steps and neurons; has no derivative
