"""Array of many neurons that pass through one core in turn, with their states in a memory.

The array reads the states of a neuron when its input arrives. They reach the core three cycles
later. The memory stores the result when it leaves the core. Two inputs of a neuron are therefore at
least L + 4 cycles apart, for a core of latency L. The order of a tick ensures this in an array of
at least L + 4 neurons. A smaller array counts the neurons in the pipeline and delays inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.channels import (
    channel_bits,
    coefficient_memory,
    counts_channels,
    in_memory,
)
from lnm_codegen.backends.verilog.array.lines import (
    READ,
    array_ports,
    core_connections,
    delay_lines,
    state_updates,
)
from lnm_codegen.backends.verilog.array.stream import stream_fields
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.parts import (
    CircuitDesign,
    declarations,
    localparam,
    named,
    separated,
)
from lnm_codegen.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class ArrayTimes:
    """Times of an array: latency, cycles of a tick, whether inputs wait for the pipeline."""

    latency: int
    tick_cycles: int
    waits: bool


def array_times(design: CircuitDesign, core_latency: int) -> ArrayTimes:
    """Return the times of the array around a core."""
    latency, neurons = core_latency + READ, design.rtl.neurons
    return ArrayTimes(latency, max(neurons, latency + 1), neurons < latency + 1)


def check_states(design: CircuitDesign) -> None:
    """Refuse an array of neurons without a state.

    Raises:
        UnsupportedError: The neuron has no state.
    """
    if "array" in design.rtl.forms and not design.states:
        raise UnsupportedError(
            f"verilog: {design.name}",
            "form 'array' stores states, and the neuron has none",
            remedy="Use rtl=lnm.Rtl(forms=('comb', 'core', 'seq')), or --forms comb,core,seq.",
        )


def array_modules(design: CircuitDesign, times: ArrayTimes) -> dict[str, str]:
    """Return the modules of the array beside those of its core, by their word."""
    modules = {"ram": render("verilog/array/ram.v.j2", design.heading)}
    if in_memory(design):
        modules["coefficients"] = coefficient_memory(design)
    return modules | {"array": _array(design, times)}


def _array(design: CircuitDesign, times: ArrayTimes) -> str:
    neurons = design.rtl.neurons
    bits = max(1, (neurons - 1).bit_length())
    members = neurons // design.model.channels
    inputs, results = stream_fields(design)
    held = {c.name for c in in_memory(design)}
    constants = [
        localparam(c, f"in_{c.name}")
        for c in design.model.coefficients
        if design.rtl.coefficients == "memory" and c.name not in held
    ]
    view = {
        **design.heading,
        "equations": design.model.equations,
        "neurons": neurons,
        "latency": times.latency,
        "tick_cycles": times.tick_cycles,
        "waits": times.waits,
        "on_ports": design.rtl.coefficients == "port",
        "by_channel": bool(held),
        "layout": [
            *(f"s_axis_tdata  {f.meaning}" for f in inputs),
            *(f"m_axis_tdata  {f.meaning}" for f in results),
        ],
        "ports": separated(array_ports(design)),
        "localparams": constants,
        "bits": bits,
        "flight_bits": neurons.bit_length(),
        "neuron_in_next": _following("neuron_in", "last_in", neurons, bits),
        "neuron_out_next": _following("neuron_out", "m_axis_tlast", neurons, bits),
        "counts_channels": counts_channels(design),
        "members": members,
        "member_bits": max(1, (members - 1).bit_length()),
        "channel_bits": channel_bits(design),
        "word": sum(width_of(s) or 1 for s in design.states),
        "written": _joined([f"out_{s.name}" for s in design.states]),
        "delays": delay_lines(design, times.latency, bits),
        "state_registers": declarations("reg", named(design.states, "in_")),
        "state_updates": state_updates(design),
        "wires": declarations("wire", design.outer_results),
        "connections": core_connections(design),
        "tdata": _joined([f.filled(f"out_{f.var.name}") for f in reversed(results)]),
    }
    return render("verilog/array/array.v.j2", view)


def _joined(parts: list[str]) -> str:
    alone = len(parts) == 1 and parts[0].isidentifier()
    return parts[0] if alone else f"{{{', '.join(parts)}}}"


def _following(name: str, last: str, neurons: int, bits: int) -> str:
    """Return the number of the next neuron; the counter wraps by itself at a power of two."""
    following = f"{name} + {bits}'d1"
    return following if neurons == 1 << bits else f"{last} ? {bits}'d0 : {following}"
