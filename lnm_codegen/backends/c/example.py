"""Example caller of the C backend: a C99 program that runs forward and backward once."""

from __future__ import annotations

from lnm_codegen.backends.c.expr import c_type, literal
from lnm_codegen.backends.plan import Plan, values_text
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Param

_SIZE = "TIME_STEPS * NEURONS"


def example_source(plan: Plan) -> str:
    """Return `example.c`."""
    model, real = plan.model, c_type(plan.model.real)
    sequences = (*model.inputs, *model.outputs)
    declarations = [
        *(f"static {real} {q}_seq[{_SIZE}], grad_{q}_seq[{_SIZE}];" for q in sequences),
        *(f"const {real} {s.name}_init = {number_of(s.init, model.real)};" for s in model.states),
        *(line for p in model.params for line in _parameter(p, model.real)),
        f"{real} *checkpoints = ({real} *)malloc(sizeof({real}) *"
        f" (size_t){model.name}_checkpoints(TIME_STEPS, NEURONS) + 1);",
    ]
    fills = [
        *(f"{x}_seq[k] = ({real})(k % 97) / 48 - ({real})0.5;" for x in model.inputs),
        *(f"grad_{o}_seq[k] = 1;" for o in model.outputs),
    ]
    shared = ["time_steps = TIME_STEPS", "neurons = NEURONS", "sample = CHANNELS * INNER"]
    shared += ["channels = CHANNELS", "inner = INNER", "threads = 2", "checkpoints = checkpoints"]
    both, gradients = settings(plan, "{0} = {0}", "{0} = &{0}", "{0} = {1}", "NEURONS")
    shared += both
    printed = (*model.outputs, *(f"grad_{x}" for x in model.inputs))
    prints = [
        *(f'printf("sum of {q} %g\\n", (double)sum({q}_seq, {_SIZE}));' for q in printed),
        *(
            f"for (int k = 0; k < {_count(p)}; ++k)"
            f' printf("grad_{p.name}[%d] %g\\n", k, (double)grad_{p.name}[k]);'
            for p in plan.learnable
        ),
    ]
    view = dict(
        family=model.family,
        name=model.name,
        prefix=model.name.upper(),
        real=real,
        declarations=declarations,
        fills=fills,
        forward_settings=(*shared, *(f"{o}_seq = {o}_seq" for o in model.outputs)),
        backward_settings=(*shared, *gradients),
        prints=prints,
    )
    return render("c/example.c.j2", view)


def settings(
    plan: Plan, sequence: str, state: str, parameter: str, stride: str
) -> tuple[list[str], list[str]]:
    """Return the assignments that both calls share, and those of the backward call alone.

    Args:
        plan: The plan.
        sequence: Assignment of a sequence, with `{0}` for the name of the field.
        state: Assignment of a state.
        parameter: Assignment of a parameter or its gradient; `{1}` is the variable.
        stride: The stride of every sequence.
    """
    model = plan.model
    shared, backward = [], []
    for x in model.inputs:
        shared += [sequence.format(f"{x}_seq"), f"{x}_stride = {stride}"]
    shared += [state.format(f"{s}_init") for s in plan.states]
    shared += [parameter.format(p.name, f"{p.name}_values") for p in model.params]
    for o in model.outputs:
        backward += [sequence.format(f"grad_{o}_seq"), f"grad_{o}_stride = {stride}"]
    backward += [sequence.format(f"grad_{x}_seq") for x in model.inputs]
    backward += [parameter.format(*[f"grad_{p.name}"] * 2) for p in plan.learnable]
    return shared, backward


def _count(p: Param) -> str:
    values = values_text(p.per, "CHANNELS", "CHANNELS * INNER")
    return f"{values} * {p.size}" if p.size else values


def _parameter(p: Param, real: str) -> tuple[str, ...]:
    """Return the declaration of a parameter's values; a user's name alone would hide others."""
    kind, start = c_type(real), init_numbers(p, real)
    grad = (f"{kind} grad_{p.name}[{_count(p)}] = {{0}};",) if p.learnable else ()
    if p.per == "layer":
        return (f"const {kind} {p.name}_values[] = {start};", *grad)
    fill = f"for (int k = 0; k < {_count(p)}; ++k)"
    return (
        f"{kind} {p.name}_values[{_count(p)}];",
        f"{fill} {p.name}_values[k] = (const {kind}[]){start}[k % {p.size or 1}];",
        *grad,
    )


def init_numbers(p: Param, real: str) -> str:
    """Return the initial numbers of one value of a parameter, in braces."""
    values = p.init if isinstance(p.init, tuple) else (p.init,) * (p.size or 1)
    return f"{{{', '.join(number_of(value, real) for value in values)}}}"


def number_of(init: object, real: str) -> str:
    """Return an initial number as a literal; 0 if a function computes it."""
    return literal(init if isinstance(init, float) else 0.0, real)
