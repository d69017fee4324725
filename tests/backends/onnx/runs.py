"""Emitted models in onnxruntime."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx.checker
import onnx.parser
import onnxruntime

import lnm_codegen as lnm
from tests.cases import Results
from tests.strategies import Arguments


def session(model: bytes) -> Any:
    """Return a session of one thread, which prints errors alone."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def session_of(neuron: lnm.Neuron, dtype: str = "float32") -> Any:
    """Return a session of the emitted model, which is valid."""
    source = lnm.emit(neuron, "onnx", dtype=dtype)
    model = onnx.parser.parse_model(source.files[source.entry])
    onnx.checker.check_model(model, full_check=True)
    return session(model.SerializeToString())


def outputs(opened: Any, **feed: Any) -> dict[str, np.ndarray]:
    """Run a session and return its outputs by name."""
    names = [o.name for o in opened.get_outputs()]
    return dict(zip(names, opened.run(None, feed), strict=True))


def results(neuron: lnm.Neuron, a: Arguments, dtype: str = "float32") -> Results:
    """Run the emitted model on arguments; it has no gradients."""
    opened, names = session_of(neuron, dtype), [s.name for s in neuron.inputs]
    feed = {f"{n}_seq": x for n, x in zip(names, a.x_seq, strict=True)}
    feed |= {f"{n}_init": v for n, v in a.state.items()} | a.params
    got = outputs(opened, **{n: np.asarray(v, dtype) for n, v in feed.items()})
    made = {n.removesuffix("_seq"): x for n, x in got.items() if n.endswith("_seq")}
    states = {n.removesuffix("_final"): x for n, x in got.items() if n.endswith("_final")}
    assert len(made) + len(states) == len(got)
    return Results(made, states, {})
