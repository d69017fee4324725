"""Printer of ONNX: expressions as nodes, one line for each, in the textual syntax of ONNX.

ONNX has no fused multiply-add. An `Fma` is a product and a sum, which are rounded separately.
"""

from __future__ import annotations

from typing import Final, assert_never

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.names import Names
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, Const, Expr, Fn, Kernel, Phase, UnaryOp
from lnm_codegen.options import DtypeName, RealName

TYPES: Final[dict[DtypeName, str]] = {
    "float32": "float", "float64": "double", "bfloat16": "bfloat16", "float16": "float16",
}  # fmt: skip
"""Type -> its name in ONNX."""

CODES: Final[dict[DtypeName, int]] = {
    "float32": 1, "float64": 11, "bfloat16": 16, "float16": 10,
}  # fmt: skip
"""Type -> its number in ONNX, as an attribute of Cast."""

_BINARY = {
    BinaryOp.ADD: "Add", BinaryOp.SUB: "Sub", BinaryOp.MUL: "Mul", BinaryOp.DIV: "Div",
    BinaryOp.AND: "And", BinaryOp.OR: "Or",
}  # fmt: skip
_COMPARE = {
    CompareOp.LT: "Less", CompareOp.LE: "LessOrEqual", CompareOp.GT: "Greater",
    CompareOp.GE: "GreaterOrEqual", CompareOp.EQ: "Equal",
}  # fmt: skip
_CALL = {
    Fn.EXP: "Exp", Fn.LOG: "Log", Fn.SQRT: "Sqrt", Fn.TANH: "Tanh", Fn.SIN: "Sin", Fn.COS: "Cos",
}  # fmt: skip


class Nodes:
    """Printer of nodes in one float type.

    Constants have lines of their own, which precede every graph that reads them.

    Attributes:
        constants: Literal -> name of its value.
        lines: Lines of nodes since the last `take_lines`.
        values: Variable of a kernel -> name of its value.
    """

    def __init__(self, real: RealName, names: Names) -> None:
        self._real, self._names = real, names
        self.constants: dict[str, str] = {}
        self.lines: list[str] = []
        self.values: dict[str, str] = {}

    def take_lines(self) -> tuple[str, ...]:
        """Return the lines so far, and begin anew."""
        lines, self.lines = tuple(self.lines), []
        return lines

    def is_new(self, name: str) -> bool:
        """Report whether a node since the last `take_lines` has this output."""
        return any(line.startswith(f"{name} = ") for line in self.lines)

    def constant(self, literal: str) -> str:
        """Return the name of a constant, such as "float {1.0}"."""
        if literal not in self.constants:
            self.constants[literal] = self._names.numbered("_c")
        return self.constants[literal]

    def node(self, operator: str, *inputs: str, attributes: str = "", wanted: str = "") -> str:
        """Print a node with one output, and return the name of the output."""
        name = self._names.fresh(wanted) if wanted else self._names.numbered("_")
        given = f" <{attributes}> " if attributes else ""
        self.lines.append(f"{name} = {operator}{given}({', '.join(inputs)})")
        return name

    def body(self, kernel: Kernel) -> None:
        """Print the Lets of a kernel, whose inputs are among `values`."""
        for phase, lets in kernel.phases():
            if phase is not Phase.PREPARE:
                self.lines.append(f"# {phase.value}")
            for let in lets:
                self.values[let.target.name] = self.value(let.value, let.target.name)

    def value(self, e: Expr, wanted: str = "") -> str:
        """Print the nodes of an expression, and return the name of its value.

        `wanted` is the name of the last node, if there is one.
        """

        def node(operator: str, *operands: Expr) -> str:
            return self.node(operator, *map(self.value, operands), wanted=wanted)

        match e:
            case Const():
                return self.number(e)
            case ir.Var(name, _):
                return self.values[name]
            case ir.Detach(arg):
                return self.value(arg, wanted)
            case ir.Unary(op, arg):
                return node("Not" if op is UnaryOp.NOT else "Neg", arg)
            case ir.Binary(binary, lhs, rhs):
                return node(_BINARY[binary], lhs, rhs)
            case ir.Power(base, exponent):
                return self._power(self.value(base), exponent, wanted)
            case ir.Compare(CompareOp.NE, lhs, rhs):
                return self.node(
                    "Not", self.value(ir.Compare(CompareOp.EQ, lhs, rhs)), wanted=wanted
                )
            case ir.Compare(compare, lhs, rhs):
                return node(_COMPARE[compare], lhs, rhs)
            case ir.Select(cond, then, orelse):
                return node("Where", cond, then, orelse)
            case ir.Fma(a, b, c):
                return node("Add", ir.mul(a, b), c)
            case ir.Call(Fn.SIGMOID, arg):  # Sigmoid of onnxruntime is not exact to a few ulp
                return node("Div", ir.ONE, ir.add(ir.ONE, ir.Call(Fn.EXP, ir.neg(arg))))
            case ir.Call(fn, arg):
                return node(_CALL[fn], arg)
            case ir.Spike(arg, _):
                return node("GreaterOrEqual", arg, ir.ZERO)
            case _:
                assert_never(e)

    def number(self, c: Const) -> str:
        """Return the name of a number, rounded once."""
        return self.constant(literal(rounded(c.value, self._real), self._real))

    def _power(self, base: str, exponent: int, wanted: str) -> str:
        value = base
        for _ in range(exponent - 2):
            value = self.node("Mul", value, base)
        return self.node("Mul", value, base, wanted=wanted)


def literal(value: float, dtype: RealName) -> str:
    """Return a number in the type as a tensor of shape (1,).

    onnxscript's optimiser drops a scalar within 1e-8 of 0 in a sum, or within 1e-5 of 1 in a
    product. It does not match a tensor with an axis.
    """
    return f"{TYPES[dtype]}[1] {{{value!s}}}"
