"""What a run of the integer C model takes, for its header, its loops and whoever calls it."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role

WORDS = ("time_steps", "neurons", "threads")
"""What every run begins with."""


def names(variables: tuple[fx.Var, ...]) -> tuple[str, ...]:
    """Return the names of variables, in order."""
    return tuple(v.name for v in variables)


@dataclass(frozen=True, slots=True)
class ModelField:
    """An argument of a run after `WORDS`.

    Attributes:
        name: As in C.
        kind: "number" (the address of sequences or states), "coefficient" (three words) or
            "stride".
        written: Whether the run writes there.
        note: What there is to say of it.
    """

    name: str
    kind: str
    written: bool = False
    note: str = ""

    def declaration(self, name: str, number: str) -> str:
        """Write the field of a struct, where numbers have a type."""
        kind = {
            "number": f"{'' if self.written else 'const '}{number} *",
            "coefficient": f"{name}_model_coefficient ",
            "stride": "int64_t ",
        }[self.kind]
        note = f" /* {self.note} */" if self.note else ""
        return f"{kind}{self.name};{note}"


def run_fields(kernel: fx.Kernel) -> tuple[ModelField, ...]:
    """Return the arguments of a run after `WORDS`, in order."""
    fields: list[ModelField] = []
    for x in names(kernel.input_vars(Role.INPUT)):
        fields += [ModelField(f"{x}_seq", "number"), ModelField(f"{x}_stride", "stride")]
    for s in names(kernel.input_vars(Role.STATE)):
        note = "1, or 0 where one number serves every neuron"
        fields += [
            ModelField(f"{s}_init", "number", note="(N)"),
            ModelField(f"{s}_init_stride", "stride", note=note),
        ]
    fields += [ModelField(c, "coefficient") for c in names(kernel.input_vars(Role.PARAM))]
    for o in names(kernel.result_vars(Role.OUTPUT)):
        fields += [ModelField(f"{o}_seq", "number", True), ModelField(f"{o}_stride", "stride")]
    for s in names(kernel.input_vars(Role.STATE)):
        fields += [
            ModelField(f"{s}_seq", "number", True, "before each step, or NULL"),
            ModelField(f"{s}_stride", "stride"),
            ModelField(f"{s}_final", "number", True, "after the last step, (N), or NULL"),
        ]
    for x in names(kernel.input_vars(Role.INPUT)):
        note = f"what {x} was rounded to, (T, N) without gaps, or NULL"
        fields.append(ModelField(f"{x}_rounded_seq", "number", True, note))
    return tuple(fields)
