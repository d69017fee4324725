from dataclasses import replace
from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import error_bounds, prepared_parameters
from lnm_codegen.analysis.exact import exact
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import trace as trace_fixed
from lnm_codegen.ir.kernel import Role, walk
from lnm_codegen.ir.types import BOOL, Bits
from tests.analysis.exactly import families, intervals, trace
from tests.refusals import refused
from tests.strategies import examples, few, neurons

U = 2**-12
GRID = tuple(k * U for k in (82, 3482, 451, -246))  # the cubic of the notes, exactly in Q4.12
CUBIC = (0.02, 0.85, 0.11, -0.06)


def bounds(neuron, v=(-2, 2), x=(-1, 1), spec=None, scheme="horner"):
    program = lnm.quantize(neuron, spec or lnm.Fixed(16, 12), scheme)
    return error_bounds(
        program,
        parameters=prepared_parameters(neuron, scheme=scheme),
        states={s.name: v for s in neuron.states},
        inputs={s.name: x for s in neuron.inputs},
    )


def test_the_bound_that_gappa_proves():
    """One rounding a step of Horner on |v| <= 2: 1/2 + 2/2 + 4/2 = 3.5 ulp = 7*2**-13."""
    found = bounds(lnm.get("lnm", degree=3, theta=GRID)).nodes
    assert found["h_3"].bound == Q(7, 2**13)
    assert [found[n].ulp for n in ("h_1", "h_2", "h_3", "h", "z")] == [0.5, 1.5, 3.5, 3.5, 3.5]
    assert all(not n.saturates and not n.coefficients.magnitude for n in found.values())
    assert [n for n, e in found.items() if e.decisions] == ["v_next"]


def test_coefficients_add_what_sollya_finds():
    """7.2e-4 on |v| <= 2, the range of the difference of the two cubics; intervals say 4.56 ulp."""
    node = bounds(lnm.get("lnm", degree=3, theta=CUBIC)).nodes["h_3"]
    assert float(node.coefficients.magnitude) == pytest.approx(7.227e-4, abs=1e-6)
    assert node.arithmetic.magnitude == Q(7, 2**13)
    assert node.bound == node.arithmetic.high + node.coefficients.high


def test_the_whole_range_of_the_format_saturates():
    """On [-8, 8) the cubic reaches 31: its nodes are marked, and what follows from them."""
    found = bounds(lnm.get("lnm", degree=3, theta=GRID), v=(-8, 8 - U)).nodes
    assert [n for n, e in found.items() if e.saturates] == ["h_3", "h"]
    assert found["h"].after == ("h_3",)
    assert found["v_next"].after == ("h_3", "h")
    assert float(found["h_3"].ulp) == pytest.approx(36.5, abs=0.01)
    assert [found[n].integer_bits for n in ("h_1", "h_2", "h_3")] == [1, 3, 6]


@pytest.mark.parametrize(
    ("rounding", "low", "high"),
    [("half_up", -3.5, 3.5), ("convergent", -3.5, 3.5), ("truncate", -7, 6)],
)
def test_each_rounding_has_its_own_error(rounding, low, high):
    """Truncation is one-sided at each step, (-1, 0] ulp: then (-3, 2), then (-7, 6)."""
    spec = lnm.Fixed(16, 12, rounding)
    error = bounds(lnm.get("lnm", degree=3, theta=GRID), spec=spec).nodes["h_3"].arithmetic
    assert low * U <= error.low
    assert error.high <= high * U
    assert float(error.low) == pytest.approx(low * U, rel=2e-3)
    assert float(error.high) == pytest.approx(high * U, rel=2e-3)


def test_a_clamp_decides_nothing_and_a_reset_does():
    """where(h < v_min, v_min, h) is continuous; the spike is not, within the error of h."""
    found = bounds(lnm.get("lnm", degree=2, theta=(0.02, 0.85, 0.11), v_min=-2.0))
    assert list(found.decisions) == ["fired"]
    assert found.decisions["fired"].margin == found.nodes["h"].bound
    assert found.nodes["h"].decisions == ()
    assert found.nodes["h"].bound == found.nodes["t0"].bound
    assert found.nodes["v_next"].decisions == ("fired",)


def test_a_shared_condition_rounds_its_constant_to_another_format():
    """The condition compared with 0.5, the clamp had 0.3: it counted as one, at a bound of 2e-4."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    u = x / 2 + v / 4
    charge = {v: lnm.where(u < 0.3, 0.3, u), w: lnm.where(u < 0.3, w / 2, w / 4)}
    neuron = lnm.Neuron(charge=charge, fire=v - 5, reset=lnm.soft_reset(v, 1))
    coarse, fine = lnm.Fixed(8, 1), lnm.Fixed(18, 12)
    names = [p.var.name for p in lnm.quantize(neuron, fine).kernel.inputs]
    spec = lnm.FixedSpec(coarse, dict.fromkeys([*names, "h", "h_w", "t0"], fine))
    found = bounds(neuron, v=(-1, 1), x=(-2, 2), spec=spec)
    assert found.nodes["v_next"].decisions == ("t1",)
    assert float(found.decisions["t1"].margin) == pytest.approx(0.2, abs=1e-3)
    assert bounds(neuron, v=(-1, 1), x=(-2, 2), spec=fine).nodes["v_next"].decisions == ()


def test_a_neuron_that_cannot_fire_decides_nothing():
    assert not bounds(lnm.get("lif", v_threshold=4.0)).decisions


SPECS = [
    lnm.Fixed(16, 12),
    lnm.Fixed(12, 8, "truncate"),
    lnm.Fixed(10, 6, "convergent"),
    lnm.FixedSpec(lnm.Fixed(12, 8), {"v": lnm.Fixed(14, 10), "h": lnm.Fixed(16, 11)}),
]


@examples(30)
@given(
    st.sampled_from(families()),
    st.sampled_from(SPECS),
    st.sampled_from(["horner", "estrin"]),
    st.data(),
)
def test_no_error_passes_its_bound(neuron, spec, scheme, data):
    """Fixed point against Fractions, from the same state: both parts, where decisions agree."""
    check_bounds(neuron, spec, scheme, data)


def test_a_sum_with_one_value_under_its_conditions():
    """v - w is at least 1 in the box, and at most 1 where the clip keeps it."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    h = lnm.clip(v - w, -1, 1)
    neuron = lnm.Neuron(charge={v: h * h * v + x, w: w * w}, output=v)
    program = lnm.quantize(neuron, lnm.Fixed(16, 12))
    states = {"v": (1, Q(3, 2)), "w": (Q(-1, 2), 0)}
    found = error_bounds(program, parameters={}, states=states, inputs={"x": (-1, 1)})
    assert found.nodes["v_next"].range.high == Q(5, 2)


@few
@given(neurons(fixed=True), st.sampled_from(SPECS[:2]), st.data())
def test_no_error_of_a_random_neuron_passes_its_bound(neuron, spec, data):
    check_bounds(neuron, spec, "horner", data)


def check_bounds(neuron, spec, scheme, data):
    program = lnm.quantize(neuron, spec, scheme)
    kernel = program.kernel
    wide = {v.name: data.draw(intervals()) for v in kernel.input_vars(Role.STATE, Role.INPUT)}
    states = {v.name: wide[v.name] for v in kernel.input_vars(Role.STATE)}
    inputs = {v.name: wide[v.name] for v in kernel.input_vars(Role.INPUT)}
    real = prepared_parameters(neuron, scheme=scheme)
    try:
        found = error_bounds(program, parameters=real, states=states, inputs=inputs)
    except ModelError:  # a parameter of a random neuron that its format does not hold
        assume(False)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    integers = {}
    for var in kernel.input_vars(Role.STATE, Role.INPUT):
        low, high = (int(end * 2**var.type.frac) for end in wide[var.name])
        integers[var.name] = rng.integers(low, high, 24, endpoint=True)
    for var in kernel.input_vars(Role.PARAM):
        integers[var.name] = np.full(24, var.type.nearest(real[var.name]))
    shown = with_comparisons(kernel)
    fixed = trace_fixed(shown, integers)
    for lane in range(24):
        check_lane(shown, found, real, {n: np.broadcast_to(a, 24)[lane] for n, a in fixed.items()})


def with_comparisons(kernel):
    """Return the kernel with a Let `<name>?<k>` for each comparison inside the value of a Let."""
    body = []
    for let in kernel.body:
        inner = (e for e in walk(let.value) if isinstance(e, fx.Compare) and e is not let.value)
        body += (
            fx.Let(fx.Var(f"{let.target.name}?{k}", BOOL), e, let.phase)
            for k, e in enumerate(inner)
        )
        body.append(let)
    return replace(kernel, body=tuple(body))


def check_lane(kernel, found, real, fixed):
    types = {p.var.name: p.var.type for p in kernel.inputs}
    types |= {let.target.name: let.target.type for let in kernel.body}
    ports = {p.var.name: types[p.var.name].value(int(fixed[p.var.name])) for p in kernel.inputs}
    own = trace(exact(kernel, rounded_constants=True), ports)
    meant = trace(exact(kernel), ports | {n: v for n, v in real.items() if n in ports})
    clipped, flipped = set(), set()
    for let in kernel.body:
        name, bits = let.target.name, types[let.target.name]
        if not isinstance(bits, Bits):
            if not fixed[name] == own[name] == meant[name]:
                flipped.add(name.partition("?")[0])
            continue
        node = found.nodes[name]
        value = bits.value(int(fixed[name]))
        if node.saturates and int(fixed[name]) in (bits.low, bits.high):
            clipped.add(name)
        assert meant[name] in node.range
        if clipped & {name, *node.after} or flipped & set(node.decisions):
            continue
        assert value - own[name] in node.arithmetic, name
        assert own[name] - meant[name] in node.coefficients, name
        assert value - meant[name] in node.total, name
    if "fired" in flipped and "z" in meant and not clipped:
        others = set(found.nodes["z"].decisions) & flipped
        assert others or abs(meant["z"]) <= found.decisions["fired"].margin


def test_mistakes_are_one_line():
    program = lnm.quantize(lnm.get("lif"), lnm.Fixed(16, 12))
    given_ = {"states": {"v": (-1, 1)}, "inputs": {"x": (-1, 1)}}
    accepted = "a value for each of "
    with refused(ModelError, "lif", "no value for parameter 'v_threshold'", accepted):
        error_bounds(program, parameters={"p0": 0.5, "inv_tau": 0.5}, **given_)
    real = prepared_parameters(lnm.get("lif"))
    problem, accepted = "parameter 'v_threshold' is 9, which does not fit Q4.12", "-8 to 7.99976"
    with refused(ModelError, "lif", problem, accepted, "Give more integer bits."):
        error_bounds(program, parameters=real | {"v_threshold": 9}, **given_)


def test_errors_that_enter_with_the_input():
    """Half a unit of x adds half a unit to h; an unknown name is refused."""
    neuron = lnm.get("if")
    program = lnm.quantize(neuron, lnm.Fixed(16, 12))
    asked = {
        "parameters": prepared_parameters(neuron),
        "states": {"v": (-1, 1)},
        "inputs": {"x": (-1, 1)},
    }
    half = Q(1, 1 << 13)
    assert error_bounds(program, **asked).nodes["h"].bound == 0
    assert error_bounds(program, **asked, errors={"x": (-half, half)}).nodes["h"].bound == half
    with refused(ModelError, "if", "no state or input 'y'", "v, x"):
        error_bounds(program, **asked, errors={"y": (0, 1)})


def test_a_name_that_cancels_keeps_its_error():
    """z_1 reads h with exact factors alone; h has the error of its own coefficient."""
    v, x = lnm.state("v"), lnm.input("x")
    leak = lnm.param("leak", init=0.4, learnable=False)
    charged = lnm.where(leak * v + x >= -2, leak * v + x, -2)
    fire = v + (v / 2 + x) ** 2 / 32 - 0.5
    neuron = lnm.Neuron(charge={v: charged}, fire=fire, reset=lnm.hard_reset(v, 0.0))
    found = bounds(neuron, v=(0, 1), x=(0, 1)).nodes
    assert found["h"].coefficients.magnitude > 0
    assert found["z_1"].coefficients.magnitude > 0
