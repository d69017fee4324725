"""Generated C of networks, compiled for the host and called through ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from lnm_codegen.backends.network_c import NetworkSource, emit_c
from lnm_codegen.ir.network.interpret import interpret_network, score_rows
from lnm_codegen.ir.network.nodes import IntegerNetwork
from tests.networks import rows

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
C_TYPES = {f"int{n}_t": np.dtype(f"int{n}") for n in (8, 16, 32, 64)}


def emitted(
    network: IntegerNetwork, samples: np.ndarray, accumulation: str = "events"
) -> NetworkSource:
    """Return the C of a network with some samples."""
    scores = score_rows(network, interpret_network(network, samples).scores)
    return emit_c(network, rows(network, samples), scores, accumulation)


def c_results(
    network: IntegerNetwork, samples: np.ndarray, folder: Path, accumulation: str = "events"
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (N, values) and labels (N,), those of the last step, of the C network."""
    name = network.name
    first = samples[:1] if network.repeated else samples[:, :1]
    emitted(network, first, accumulation).source.write(folder)
    library = folder / f"{name}.so"
    command = ["gcc", *FLAGS, "-O1", "-shared", "-fPIC", "-o", library, folder / f"{name}.c"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    header = (folder / f"{name}.h").read_text()
    words = {w: header.split(f" {name}_{w};")[0].split()[-1] for w in ("input", "score")}
    kinds = {word: C_TYPES[kind] for word, kind in words.items()}
    loaded = ctypes.CDLL(str(library))
    run, scores = loaded[f"{name}_run"], loaded[f"{name}_scores"]
    scores.restype = ctypes.POINTER(np.ctypeslib.as_ctypes_type(kinds["score"]))
    found, labels = [], []
    for row in rows(network, samples):
        x = np.ascontiguousarray(row, kinds["input"]).ctypes.data_as(ctypes.c_void_p)
        every = np.empty(network.score_count, kinds["score"])
        by_step = network.over == "step"
        labels.append(run(x, every.ctypes.data_as(ctypes.c_void_p)) if by_step else run(x))
        last = np.ctypeslib.as_array(scores(), (network.classes,)).copy()
        assert not by_step or (every[-network.classes :] == last).all()
        found.append(every if by_step else last)
    assert run(None) == -1
    return np.array(found), np.array(labels)
