"""The emitted model in onnxruntime: families at inputs that spike, defaults, types, names.

`tests/test_agree.py` compares it with `interpret`, `generated/onnx` has whole files.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler.stimulus import spiking_scale
from lnm_codegen.families import FAMILIES
from tests.cases import arguments, exact
from tests.refusals import refused
from tests.test_agree import check, neuron_of, settle

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from tests.backends.onnx.runs import outputs, results, session_of

QUICK = ("lif", "rf", "refractory_lif")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FAMILIES]
)
def test_every_family(name: str) -> None:
    """With its defaults, at inputs that make it spike: lif, rf and six others once did not."""
    neuron, rng = lnm.get(name), np.random.default_rng(len(name))
    a = arguments(neuron, rng, (7, 2, 3, 2))
    scale = spiking_scale(neuron, *a.x_seq, values=a.params, state=a.state).scale
    a = replace(a, x_seq=tuple(exact(scale * x) for x in a.x_seq))
    if name == "hodgkin_huxley":  # gates at rest, and potentials in mV below the threshold, 0
        v = exact(rng.uniform(-30, 0, a.state["v"].shape))
        rest = {s.name: exact(np.full_like(v, s.decl.init)) for s in neuron.states}
        a = replace(a, state=rest | {"v": v, "last": v.copy()})
    a, b = settle(neuron, a, rng)
    if neuron.spikes and name != "hodgkin_huxley":
        assert next(iter(b.outputs.values())).value.any()
    check(results(neuron, a), b, "float32")


def test_defaults() -> None:
    """Initial states and parameters that are not given are the declared ones."""
    neuron = lnm.get("lnm", degree=3, per="channel", theta=(0.05, 0.5, 0.125, -0.0625))
    x = np.random.default_rng(0).uniform(-1, 2, (9, 2, 3, 4)).astype(np.float32)
    got = outputs(session_of(neuron), x_seq=x)
    expected = lnm.interpret(neuron, x, dtype="float32")
    assert expected.out.mean() > 0.1
    np.testing.assert_array_equal(got["spike_seq"], expected.out)


def test_an_initial_value_by_a_function_must_be_given() -> None:
    """It has no default."""
    v, x = lnm.state("v", init=lambda generator, shape: 0.0), lnm.input("x")
    opened = session_of(lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, name="drawn"))
    assert [i.name for i in opened.get_inputs()] == ["x_seq", "v_init"]
    assert not opened.get_overridable_initializers()


def test_further_inputs_repeat() -> None:
    """One number for each step, or for each channel, as `interpret` repeats them."""
    neuron, rng = neuron_of("dendrite"), np.random.default_rng(3)
    x = rng.uniform(-1, 1, (5, 2, 3, 4))
    for shape in ((5, 1, 1, 1), (1, 1, 3, 1), (5, 2, 1, 4), (1, 1, 1, 1)):
        drive = rng.uniform(-1, 1, shape)
        got = outputs(session_of(neuron, "float64"), x_seq=x, drive_seq=drive)
        expected = lnm.interpret(neuron, x, drive)
        for name, array in expected.outputs.items():
            np.testing.assert_allclose(got[f"{name}_seq"], array, rtol=1e-12, atol=1e-12)


def test_16_bits() -> None:
    """Sequences of 16 bits, arithmetic and states of 32. NumPy has no bfloat16."""
    for dtype in ("float16", "bfloat16"):
        opened = session_of(lnm.get("lif"), dtype)
        assert opened.get_inputs()[0].type == f"tensor({dtype})"
        kinds = [o.type for o in opened.get_outputs()]
        assert kinds == [f"tensor({dtype})", "tensor(float)"]
    x = np.random.default_rng(1).uniform(-1, 3, (9, 2, 3, 4)).astype(np.float16)
    got = outputs(session_of(lnm.get("lif"), "float16"), x_seq=x)
    expected = lnm.interpret(lnm.get("lif"), x, dtype="float32")
    np.testing.assert_array_equal(got["spike_seq"], expected.out)
    np.testing.assert_allclose(got["v_final"], expected.states["v"], 1e-6, 1e-6)


def test_the_spike_of_zero_and_of_nan() -> None:
    """1 at z = 0, 0 at NaN; a comparison with NaN is false, and unequal is true."""
    v, x = lnm.state("v"), lnm.input("x")
    below = lnm.where(x <= 0, 1, lnm.where(x > 0, 2, 3))
    neuron = lnm.Neuron(
        charge={v: v + x}, fire=v - 1, output={"spike": lnm.spike, "below": below}, name="signs"
    )
    x_seq = np.array([1.0, np.nextafter(np.float32(1), np.float32(0)), np.nan, -np.inf], np.float32)
    got = outputs(session_of(neuron), x_seq=x_seq.reshape(1, 1, 1, 4))
    assert got["spike_seq"].ravel().tolist() == [1, 0, 0, 0]
    assert got["below_seq"].ravel().tolist() == [2, 2, 3, 1]


def test_counts() -> None:
    """Sums over steps and neurons, in float64."""
    neuron = neuron_of("lif").with_counts(spike_count=lnm.spike)
    x = np.random.default_rng(1).uniform(-1, 3, (9, 2, 3, 4)).astype(np.float32)
    got = outputs(session_of(neuron), x_seq=x)
    assert got["spike_count_sum"].dtype == np.float64
    assert got["spike_count_sum"] == got["spike_seq"].sum() > 0


@pytest.mark.parametrize("word", ["float", "seq", "Scan", "graph", "step", "inf", "h"])
def test_names_that_are_words(word: str) -> None:
    """Words of the syntax, and names that the printer would use itself, are names like others."""
    s, x, p = lnm.state(word), lnm.input(f"{word}_2"), lnm.param(f"{word}_init_C", init=0.5)
    neuron = lnm.Neuron(charge={s: p * s + x}, fire=s - 1, name=word)
    x_seq = np.full((3, 1, 1, 1), 0.75, np.float32)
    got = outputs(session_of(neuron), **{f"{word}_2_seq": x_seq})
    assert got["spike_seq"].ravel().tolist() == [0, 1, 1]


def test_two_ports_of_one_name_are_refused() -> None:
    """`x_seq` is the input x of the graph."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("x_seq", init=0.5)
    neuron, problem = lnm.Neuron({v: p * v + x}, v - 1, name="twice"), "have the name 'x_seq'"
    with refused(lnm.UnsupportedError, "onnx: twice", problem, remedy="Rename a state"):
        lnm.emit(neuron, "onnx")


def test_emission_loads_neither_onnx_nor_torch() -> None:
    """The file is text, so nobody needs onnx to write it."""
    code = (
        "import sys, lnm_codegen as lnm; lnm.emit(lnm.get('lif'), 'onnx');"
        "print([m for m in ('onnx', 'onnxscript', 'torch') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
