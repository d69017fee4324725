"""The run of a network in integers: a digest of its weights, and a comparison of their layers.

`lnm quantize RUN --out DIR` writes DIR/run.json beside the network:

    {"format": "lnm_codegen.network_run", "version": 1, "weights": digest}

The digest is the SHA-256 of name, type, shape and bytes of each tensor of the trained network.
"""

from __future__ import annotations

import hashlib
import json
from itertools import zip_longest
from pathlib import Path

import torch
from torch import nn

from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.compiler.formats import load_spec, spec_line
from lnm_codegen.deploy.integers.convert import RealNetwork
from lnm_codegen.deploy.integers.real import RealNeurons, RealStage, RealWeights
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.files import json_of
from lnm_codegen.ir.fixed.exchange import keyed
from lnm_codegen.ir.network.exchange import JSON
from lnm_codegen.ir.network.nodes import (
    AddStage,
    AnyStage,
    BranchStage,
    IntegerNetwork,
    NeuronStage,
    OverTime,
    PoolStage,
    WeightStage,
)
from lnm_codegen.validation import require_one_of

FILE = "run.json"
FORMAT, VERSION = "lnm_codegen.network_run", 1
_REMEDY = "Write it again with lnm quantize."


def run_file(network: nn.Module) -> str:
    """Return the text of run.json for a trained network."""
    content = {"format": FORMAT, "version": VERSION, "weights": weights_digest(network)}
    return f"{json.dumps(content, indent=2)}\n"


def weights_digest(network: nn.Module) -> str:
    """Return the digest of the tensors of a network, in hexadecimal."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        found.update(f"{name} {data.dtype} {tuple(data.shape)}\n".encode())
        found.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _digest_in(folder: Path) -> str | None:
    """Return the digest in run.json; None without this file."""
    path = folder / FILE
    if not path.exists():
        return None
    where = str(path)
    content = keyed(json_of(path, where, _REMEDY), ("format", "version", "weights"), where)
    require_one_of(where, "format", content["format"], (FORMAT,))
    require_one_of(where, "version", content["version"], (VERSION,))
    return str(content["weights"])


def layer_difference(network: IntegerNetwork, real: RealNetwork) -> str:
    """Return the first difference between the layers of a network and those of a run, or "".

    Input, sizes, poolings, reduction over time and the steps of neurons are compared; weights and
    parameters are not.
    """
    lines = _lines(network, network.over), _lines(real, real.chain.over)
    for own, other in zip_longest(*lines, fillvalue="no further layer"):
        if own != other:
            return f"it has {own}, and the run has {other}"
    neurons = (stage for stage in network.stages if isinstance(stage, NeuronStage))
    for stage, expected in zip(neurons, real.neurons, strict=True):
        if not _is_step_of(expected, stage):
            return f"{stage.name}: its step is not that of the run's `{stage.program.name}`"
    return ""


def _lines(network: IntegerNetwork | RealNetwork, over: OverTime) -> list[str]:
    repeated = ", repeated" * network.repeated
    head = f"input {network.input_shape} over {network.time_steps} time steps{repeated}"
    return [head, *map(_line, network.stages), f"scores by {over}"]


def _line(stage: AnyStage | RealStage) -> str:
    match stage:
        case WeightStage() | RealWeights():
            text = f"{stage.name} with weights {stage.weight.shape}"
            if stage.kind == "linear":
                return text
            return f"{text}, stride {stage.stride} and padding {stage.padding}"
        case NeuronStage():
            return f"{stage.name} with `{stage.program.name}`"
        case RealNeurons():
            return f"{stage.name} with `{stage.layer.neuron.name}`"
        case PoolStage(kind, size):
            return f"a {kind} pooling of {size}"
        case AddStage(other):
            return f"an addition of stage {other}"
        case BranchStage(origin):
            return f"a branch from stage {origin}"
        case _:
            return "a flatten"


def _is_step_of(expected: RealNeurons, stage: NeuronStage) -> bool:
    """Report whether the run's neuron gives this program in the formats of the program."""
    try:
        return program_of(expected.layer.neuron, stage.program.spec) == stage.program
    except LnmError:  # the formats do not fit this neuron
        return False


def require_formats(folder: Path, network: IntegerNetwork) -> None:
    """Raise ModelError if a <layer>.toml in a folder has other formats than its network.

    The network decides, so that a change of such a file would be ignored.
    """
    for stage in network.stages:
        path = folder / f"{getattr(stage, 'name', '')}.toml"
        if not isinstance(stage, NeuronStage) or not path.exists():
            continue
        file, own = load_spec(path), stage.program.spec
        names = {name for name, _ in file.nodes + own.nodes}
        if file.default != own.default or any(file[name] != own[name] for name in names):
            remedy = (
                f"Run lnm quantize again, or delete {folder / JSON}: without it --format takes the"
                " TOML files, and weights have the bits of --weights."
            )
            problem = f"its formats are not those of {JSON}, which --network takes"
            raise ModelError(str(path), problem, spec_line(own), remedy)


def require_run(folder: Path, network: IntegerNetwork, real: RealNetwork) -> bool:
    """Raise ModelError unless a folder's network is one of a run; report if weights were compared.

    Without run.json in the folder, only layers are compared.
    """
    where, accepted = f"--format {folder}", "the folder that lnm quantize wrote for this run"
    if difference := layer_difference(network, real):
        raise ModelError(where, f"it is the network of another run: {difference}", accepted)
    digest = _digest_in(folder)
    if digest not in (None, weights_digest(real.network)):
        remedy = "If the run was trained further, run lnm quantize again."
        raise ModelError(where, "it was made from other weights than the run's", accepted, remedy)
    return digest is not None
