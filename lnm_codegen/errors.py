"""Every exception lnm_codegen raises, on one screen.

A message reads: *where: what is wrong, with the value. What is accepted. What to do.*
"""


class LnmError(Exception):
    """The base of everything this package raises on purpose."""


class ModelError(LnmError, ValueError):
    """A definition, an argument or a path that whoever gave it can mend."""


class DivergedError(ModelError):
    """Training met a loss or a gradient that is not finite."""


class ShapeError(LnmError, ValueError):
    """A tensor whose shape, type or device does not fit the call."""


class UnsupportedError(LnmError, NotImplementedError):
    """A legal model that this backend or this mode cannot express."""


class ToolError(LnmError, RuntimeError):
    """The machine lacks something (a compiler, a device), or a tool failed."""


class InternalError(LnmError):
    """A bug of ours. The message says so and asks for a report."""

    def __str__(self) -> str:
        return f"{super().__str__()} This is a bug of lnm_codegen; please report it."
