"""Whole messages, at least one of each part of the package, as examples of their form.

A message is `where: problem with the value. Accepted: what is accepted. Remedy.` All other tests
match these parts alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.errors import MOST_LISTED, DivergedError, shortened
from lnm_codegen.families import FAMILIES
from lnm_codegen.nn.load import c
from lnm_codegen.train.data import DATASETS
from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.validation import listed

V, X = lnm.state("v"), lnm.input("x")
LIF = lnm.get("lif")
BUILT_IN = shortened(FAMILIES)
SETS = shortened([*DATASETS, "file.py:function", "module:function"])


def layer(*arguments: Any, **more: Any) -> torch.Tensor:
    out: torch.Tensor = lnm.nn.NeuronLayer(LIF, backend="torch")(*arguments, **more)
    return out


def definition(folder: Path) -> lnm.Neuron:
    (folder / "my.toml").write_text('name = "n"\ninputs = "x"\n', encoding="utf-8")
    return lnm.load("my.toml")


def diverged(folder: Path) -> object:
    """Train a cubic with soft reset and no clamp, which overflows."""
    small = TrainConfig(
        data="digits", limit=40, batch=20, epochs=1, device="cpu", backend="torch", v_min=None,
        arguments={"degree": 3, "v_reset": None, "theta": [0.0, 2.0, 1.0, 9.0]},
        network_arguments={"channels": (4, 4), "time_steps": 8},
    )  # fmt: skip
    return lnm.train.run(small, folder / "run")


MESSAGES: list[tuple[type[lnm.LnmError], Callable[[Path], object], str]] = [
    (
        lnm.ModelError, lambda _: lnm.Neuron({V: V + X + sympy.Symbol("vv")}, V - 1),
        "neuron.charge: unknown symbol 'vv'. Accepted: v, x. Did you mean 'v'?",
    ),
    (
        lnm.ModelError, definition,
        "my.toml: inputs: the value is 'x'. Accepted: a list of names, such as [\"x\"]; {name ="
        ' "x", read = false} for one that nothing reads.',
    ),
    (
        lnm.ModelError, lambda _: lnm.get("lfi"),
        f"get: no family 'lfi'. Accepted: {BUILT_IN}. Did you mean 'li'?",
    ),
    (lnm.ModelError, lambda _: lnm.get("lif", tau=0), "lif: tau is 0. Accepted: a number > 1."),
    (
        lnm.ShapeError, lambda _: layer(torch.zeros(3)),
        "lif: input 'x' has shape (3,). Accepted: (T, N, *).",
    ),
    (
        lnm.ToolError, lambda _: c.compiler(),
        "c: no C++ compiler found (no-such-compiler). Install g++, or use backend='torch'.",
    ),
    (
        lnm.ModelError, lambda _: lnm.emit(LIF, backend="c++"),
        "emit: backend is 'c++'. Accepted: 'torch', 'c', 'triton', 'cuda', 'onnx', 'verilog'.",
    ),
    (
        lnm.ModelError, lambda _: TrainConfig(epochs=0),
        "train: epochs is 0. Accepted: an integer >= 1.",
    ),
    (
        lnm.ModelError, lambda _: lnm.train.load("minst"),
        f"data: no set 'minst'. Accepted: {SETS}. Did you mean 'mnist'?",
    ),
    (
        lnm.ModelError, lambda _: lnm.quantize(LIF, lnm.Fixed(40, 2)),
        "Fixed: width is 40. Accepted: an integer from 2 to 32.",
    ),
    (
        DivergedError, diverged,
        "train: the gradient of blocks.1.neuron.theta is not finite at step 1, epoch 1; the network"
        " is as it was before this step. Lower lr_neuron, or give v_min, such as -2.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "call", "message"), MESSAGES, ids=lambda m: m[:40] if isinstance(m, str) else ""
)
def test_messages(
    kind: type[lnm.LnmError], call: Any, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """The whole text of an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    c.compiler.cache_clear()
    with pytest.raises(kind) as caught:
        call(tmp_path)
    c.compiler.cache_clear()
    assert str(caught.value) == message


COMMANDS = [
    ("show", "lnm show: Missing argument 'FAMILY'. See lnm show --help."),
    (
        "verify nowhere",
        "verify: nowhere: no such folder. Write one: lnm emit FAMILY --backend verilog --format"
        " 16.12 --out DIR.",
    ),
    (
        "emit lif --backend verilog --format 40.2 --out x",
        "--format '40.2': width is 40. Accepted: an integer from 2 to 32.",
    ),
]


@pytest.mark.parametrize(("command", "message"), COMMANDS)
def test_messages_of_the_command_line(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line prints one line to standard error, and returns 2 for a user's mistake."""
    assert run(command.split()) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_long_list_is_shortened() -> None:
    """Of 300 characters. A list that fits is whole; the last words may name anything."""
    words = [f"word_{k:02d}" for k in range(40)]
    error = lnm.ModelError("here", "no word 'x'", words)
    assert error.accepted.startswith("word_00, word_01, ")
    assert error.accepted.endswith(", ..., word_38, word_39 (40 in all)")
    assert len(error.accepted) <= MOST_LISTED + 25
    assert lnm.ModelError("here", "no word", words[:20]).accepted == ", ".join(words[:20])
    assert shortened(["a" * 300]) == "a" * 300
    assert listed(range(100)).endswith(", ..., 98, 99 (100 in all)")
