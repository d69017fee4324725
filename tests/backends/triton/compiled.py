"""Compile generated Triton kernels ahead of time, for GPUs that are not here.

As a script it reads jobs (JSON) from the command line and prints what became of each. It must not
share a process with Triton's interpreter.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import lnm_codegen as lnm
from lnm_codegen.backends.triton.backend import layer_params
from tests.backends.triton.runs import Built, build
from tests.cases import CASES

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
    "gfx1100": GPUTarget("hip", "gfx1100", 32),
}
POINTERS = {"float32": "*fp32", "float64": "*fp64", "bfloat16": "*bf16", "float16": "*fp16"}


def signature_of(built: Built, kernel: Any, constants: dict[str, Any]) -> dict[str, str]:
    """Return the types of a kernel's arguments, as a launch on tensors would find them."""
    plan = built.plan
    io, real = POINTERS[plan.dtype], POINTERS[plan.real]
    kinds = {f.name: f.kind for f in (*plan.forward_fields, *plan.backward_fields)}
    kinds |= {f"grad_{p.name}": "double" for p in layer_params(plan)}
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif kernel.params[kernel.arg_names.index(name)].annotation_type == "i64":
            signature[name] = "i64"
        else:
            kind = kinds.get(name.removesuffix("_ptr"), "real")
            signature[name] = {"io": io, "real": real, "double": "*fp64"}[kind]
    return signature


def constants_of(built: Built, kernel: str, **changed: Any) -> dict[str, Any]:
    """Return the compile-time arguments of a kernel, as the module itself would launch it."""
    m = built.module
    table = {
        "_forward_kernel": {"_LANES": m._FORWARD_LANES, "_ALIGNED": True},
        "_backward_kernel": {
            "_LANES": m._LANES, "_CHUNK": m._CHUNK, "_AHEAD": min(m._AHEAD, m._CHUNK),
            "_ALIGNED": True,
        },
        "_sums_kernel": {"_MEMBERS": m._MEMBERS, "_SUM_ROWS": m._SUM_ROWS}
        if hasattr(m, "_MEMBERS") else {},
    }[kernel]  # fmt: skip
    if kernel != "_sums_kernel":
        table |= {f"_{x}_SHARED": False for x in built.plan.inputs[1:]}
    return table | changed


def warps_of(built: Built, kernel: str) -> int:
    m = built.module
    if kernel == "_sums_kernel":
        return int(m._SUM_WARPS)
    return int(m._FORWARD_WARPS if kernel == "_forward_kernel" else m._WARPS)


def compile_kernel(
    built: Built, kernel: str, target: str, warps: int | None = None, **changed: Any
) -> Any:
    function = getattr(built.module, kernel)
    constants = constants_of(built, kernel, **changed)
    source = ASTSource(function, signature_of(built, function, constants), constants)
    options = {"num_warps": warps or warps_of(built, kernel), "enable_fp_fusion": False}
    return triton.compile(source, target=TARGETS[target], options=options)


def assembler(capability: int) -> str:
    """Return the path of Triton's `ptxas` for a compute capability, such as 90."""
    from triton.backends.nvidia import compiler

    asked = len(inspect.signature(compiler.get_ptxas).parameters)  # Triton 3.4 and 3.5: one for all
    found = compiler.get_ptxas(*(capability,)[:asked])
    return str(found[0] if isinstance(found, tuple) else found.path)  # Triton 3.3: with its version


def ptxas(text: str, target: str) -> dict[str, int]:
    """Return registers and bytes spilled, as `ptxas -v` counts them."""
    capability = int(target.removeprefix("sm_"))
    name = target + ("a" if capability >= 90 else "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(text)
        line = [assembler(capability), "-v", "--fmad=false", f"--gpu-name={name}", str(path)]
        line += ["-o", f"{folder}/out"]
        said = subprocess.run(line, capture_output=True, text=True, check=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said)
    used = re.search(r"Used (\d+) registers", said)
    assert spilled, said
    assert used, said
    return {"registers": int(used[1]), "spilled": int(spilled[1]) + int(spilled[2])}


def outcome(job: dict[str, Any]) -> dict[str, Any]:
    """Compile the kernel that a job describes."""
    if "case" in job:
        neuron = CASES[job["case"]]()
    else:
        neuron = lnm.get(job["family"], **job.get("options", {}))
    built = build(neuron, job.get("dtype", "float32"))
    kernel, target = job["kernel"], job["target"]
    if not hasattr(built.module, kernel):
        return job | {"absent": True}
    compiled = compile_kernel(built, kernel, target, job.get("warps"), **job.get("changed", {}))
    said: dict[str, Any] = {"kinds": sorted(compiled.asm), "chunk": built.module._CHUNK}
    if "ptx" in compiled.asm:
        ptx = compiled.asm["ptx"]
        said |= ptxas(ptx, target) | {"fused": len(re.findall(r"fma\.rn", ptx))}
        said["wide"] = {
            kind: len(re.findall(rf"{kind}\.global\.v[24]\.b32", ptx)) for kind in ("ld", "st")
        }
        said["narrowed"] = sorted(set(re.findall(r"cvt[.\w]*\.bf16[.\w]*\.f32", ptx)))
        said["approximate"] = sorted(set(re.findall(r"\w+\.approx[.\w]*|div\.full\S*", ptx)))
    return job | said


if __name__ == "__main__":
    print(json.dumps([outcome(job) for job in json.loads(sys.argv[1])]))
