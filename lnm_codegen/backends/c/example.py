"""The example caller of the C backend: a C99 program that runs forward and backward once."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.base import Model
from lnm_codegen.backends.c.expr import c_type, literal
from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Param

_SIZE = "TIME_STEPS * NEURONS"
_ROWS = {"layer": "1", "channel": "CHANNELS", "neuron": "CHANNELS * INNER"}


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    real: str
    declarations: tuple[str, ...]
    fills: tuple[str, ...]
    forward_settings: tuple[str, ...]
    backward_settings: tuple[str, ...]
    prints: tuple[str, ...]


def example_source(model: Model, plan: Plan) -> str:
    """Return `example.c`."""
    real, states = c_type(model.real), plan.states
    declarations = [
        *(f"static {real} {x}_seq[{_SIZE}], grad_{x}_seq[{_SIZE}];" for x in model.inputs),
        *(f"static {real} {o}_seq[{_SIZE}], grad_{o}_seq[{_SIZE}];" for o in model.outputs),
        *(f"const {real} {s.name}_init = {_number(s.init, model)};" for s in model.states),
        *(line for p in model.params for line in _parameter(p, model, real)),
        f"{real} *checkpoints = ({real} *)malloc(sizeof({real}) *"
        f" {model.name}_checkpoints(TIME_STEPS, NEURONS) + 1);",
    ]
    fills = [
        *(f"{x}_seq[k] = ({real})(k % 97) / 48 - ({real})0.5;" for x in model.inputs),
        *(f"grad_{o}_seq[k] = 1;" for o in model.outputs),
    ]
    shared = ["time_steps = TIME_STEPS", "neurons = NEURONS", "sample = CHANNELS * INNER"]
    shared += ["channels = CHANNELS", "inner = INNER", "threads = 2", "checkpoints = checkpoints"]
    for x in model.inputs:
        shared += [f"{x}_seq = {x}_seq", f"{x}_stride = NEURONS"]
    shared += [f"{s}_init = &{s}_init" for s in states]
    shared += [f"{p.name} = {p.name}" for p in model.params]
    backward = []
    for o in model.outputs:
        backward += [f"grad_{o}_seq = grad_{o}_seq", f"grad_{o}_stride = NEURONS"]
    backward += [f"grad_{x}_seq = grad_{x}_seq" for x in model.inputs]
    backward += [f"grad_{p.name} = grad_{p.name}" for p in plan.learnable]
    prints = [
        *(f'printf("sum of {o} %g\\n", (double)sum({o}_seq, {_SIZE}));' for o in model.outputs),
        *(
            f'printf("sum of grad_{x} %g\\n", (double)sum(grad_{x}_seq, {_SIZE}));'
            for x in model.inputs
        ),
        *(
            f"for (int k = 0; k < {_count(p)}; ++k)"
            f' printf("grad_{p.name}[%d] %g\\n", k, (double)grad_{p.name}[k]);'
            for p in plan.learnable
        ),
    ]
    return render(
        "c/example.c.j2",
        _View(
            family=model.family,
            name=model.name,
            real=real,
            declarations=tuple(declarations),
            fills=tuple(fills),
            forward_settings=(*shared, *(f"{o}_seq = {o}_seq" for o in model.outputs)),
            backward_settings=(*shared, *backward),
            prints=tuple(prints),
        ),
    )


def _count(p: Param) -> str:
    return f"{_ROWS[p.per]} * {p.size}" if p.size else _ROWS[p.per]


def _parameter(p: Param, model: Model, real: str) -> tuple[str, ...]:
    values = p.init if isinstance(p.init, tuple) else (p.init,) * (p.size or 1)
    rows = [_number(v, model) for v in values]
    start = f"{{{', '.join(rows)}}}"
    grad = (f"{real} grad_{p.name}[{_count(p)}] = {{0}};",) if p.learnable else ()
    if p.per == "layer":
        return (f"const {real} {p.name}[] = {start};", *grad)
    fill = f"for (int k = 0; k < {_count(p)}; ++k)"
    return (
        f"{real} {p.name}[{_count(p)}];",
        f"{fill} {p.name}[k] = (const {real}[]){start}[k % {len(rows)}];",
        *grad,
    )


def _number(value: object, model: Model) -> str:
    return literal(value if isinstance(value, float) else 0.0, model.real)
