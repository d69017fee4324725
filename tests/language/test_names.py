"""Names of declarations: what no target could print is refused, and nothing else."""

from __future__ import annotations

import keyword

import pytest

import lnm_codegen as lnm
from tests.refusals import refused

DECLARE = {"state": lnm.state, "input": lnm.input, "parameter": lnm.param}


@pytest.mark.parametrize("kind", DECLARE)
def test_keywords_of_python(kind: str) -> None:
    """Every target is called from Python, with the names as arguments."""
    for word in keyword.kwlist:
        with refused(lnm.ModelError, f"{kind} {word!r}", "a keyword of Python", "", "Choose"):
            DECLARE[kind](word)


@pytest.mark.parametrize("word", ["_v", "grad_v", "sum_v", "v_next", "_", "grad_"])
def test_forms_of_generated_code(word: str) -> None:
    """Prefixes and suffixes that the compiler adds to names."""
    with refused(lnm.ModelError, f"state {word!r}", "names of the forms", "", "Choose"):
        lnm.state(word)


@pytest.mark.parametrize(
    "word", "time small table signed real bool int constexpr nullptr wire reg module EOF".split()
)
def test_words_of_one_language(word: str) -> None:
    """A word of C or Verilog is free in a neuron for PyTorch; the target refuses it alone."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param(word, init=0.5)
    neuron = lnm.Neuron(charge={v: p * v + x}, fire=v - 1, name=word)
    assert lnm.emit(neuron, "torch").files
    assert lnm.emit(neuron, "triton").files
    assert lnm.interpret(neuron, [[[1.0]]], **{word: 0.25}).out.shape == (1, 1, 1)
