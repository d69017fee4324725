"""Proofs of a circuit for sby, each with a control that must fail.

NAME_step.sby, NAME_clamp.sby   the leaves against models written as comparisons
NAME_pipeline.sby               the core against its own logic without registers
NAME_next.sby                   that logic against the single-cycle step
NAME_state.sby                  bounds of the states after every step
NAME_seq.sby, NAME_array.sby    the streams neither lose nor add a result
"""

from __future__ import annotations

from collections.abc import Mapping

from lnm_codegen.backends.verilog.core.pipeline import Pipeline
from lnm_codegen.backends.verilog.formal.core import next_proof, pipeline_proof
from lnm_codegen.backends.verilog.formal.instances import instances_of, sources_of
from lnm_codegen.backends.verilog.formal.leaves import leaf_proofs
from lnm_codegen.backends.verilog.formal.state import state_proof
from lnm_codegen.backends.verilog.formal.stream import stream_proof
from lnm_codegen.backends.verilog.parts import CircuitDesign


def proofs(
    design: CircuitDesign, files: Mapping[str, str], latencies: Mapping[str, int]
) -> dict[str, str]:
    """Return the files of formal/.

    Args:
        design: The neuron.
        files: The circuit, path -> text.
        latencies: Form of the circuit -> latency.
    """
    found: dict[str, str] = {}
    if "comb" in latencies:
        found |= state_proof(design)
    if f"rtl/{design.name}_core.v" in files:  # an array has it too
        instances = instances_of(design.name, files[f"rtl/{design.name}_core.v"])
        sources = sources_of(design, files)
        found |= leaf_proofs(design, instances, sources)
        found |= pipeline_proof(design, instances, sources, Pipeline(design).latency)
        found |= next_proof(design, instances, sources, files[f"rtl/{design.name}_next.v"])
    for form in ("seq", "array"):
        if form in latencies:
            found |= stream_proof(design, form, files, latencies[form])
    return found
