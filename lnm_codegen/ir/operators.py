"""Enumerations of the IR: operators, functions, phases of a Let, roles of a port."""

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
    """Comparisons; every one except NE is false if an operand is NaN."""

    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "=="
    NE = "!="


class Fn(Enum):
    """Functions of one argument."""

    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    SIN = "sin"
    COS = "cos"


class Phase(Enum):
    """Origin of a Let; printed as a comment."""

    PREPARE = "prepare"
    CHARGE = "charge"
    FIRE = "fire"
    RESET = "reset"
    OUTPUT = "output"
    ADJOINT = "adjoint"


class Role(Enum):
    """Meaning of a port."""

    STATE = "state"
    INPUT = "input"
    PARAM = "param"
    OUTPUT = "output"
    GRAD = "grad"
    COUNT = "count"  # summed over time steps and neurons; has no derivative
