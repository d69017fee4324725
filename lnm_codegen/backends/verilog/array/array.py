"""The array: many neurons one after another through the core, their states in a memory.

A neuron is read when its input comes, its states reach the core three cycles later, and its result
is written as it leaves: a neuron's next input may come four cycles more than the core's latency
after its last. With at least so many neurons the order of a tick alone sees to that; with fewer,
those in the pipeline are counted, and an input waits while all of them are in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.array_lines import (
    READ,
    array_ports,
    constant_in_array,
    core_connections,
    layout,
    state_updates,
    travelling,
)
from lnm_codegen.backends.verilog.array.channels import (
    channel_bits,
    coefficient_memory,
    counts_channels,
    in_memory,
)
from lnm_codegen.backends.verilog.array.stream import fields
from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.backends.verilog.parts import Design, constant_declared, separated
from lnm_codegen.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class ArrayTimes:
    """What an array takes: cycles from an input to its result, and for a tick of all neurons."""

    latency: int
    tick_cycles: int
    waits: bool


def array_times(design: Design, core_latency: int) -> ArrayTimes:
    """Return the times of the array around a core."""
    latency, neurons = core_latency + READ, design.rtl.neurons
    return ArrayTimes(latency, max(neurons, latency + 1), neurons < latency + 1)


def check_states(design: Design) -> None:
    """Refuse an array of neurons that have nothing to store.

    Raises:
        UnsupportedError: No state.
    """
    if "array" in design.rtl.forms and not design.states:
        raise UnsupportedError(
            f"verilog: {design.name}",
            "form 'array' stores states, and there is none",
            remedy="Use rtl=lnm.Rtl(forms=('comb', 'core', 'seq')).",
        )


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    head: tuple[str, ...]
    neurons: int
    latency: int
    tick_cycles: int
    waits: bool
    held: bool
    by_channel: bool
    layout: tuple[str, ...]
    ports: tuple[str, ...]
    localparams: tuple[str, ...]
    bits: int
    shape: str
    last: int
    flight_bits: int
    flight_shape: str
    neuron_in_next: str
    neuron_out_next: str
    counts_channels: bool
    members: int
    member_bits: int
    member_shape: str
    last_member: int
    channel_bits: int
    channel_shape: str
    word: int
    word_shape: str
    written: str
    delays: tuple[str, ...]
    state_registers: tuple[str, ...]
    state_updates: tuple[str, ...]
    wires: tuple[str, ...]
    connections: tuple[str, ...]
    tdata: str


def array_modules(design: Design, core_latency: int) -> dict[str, str]:
    """Return the modules of the array beside those of its core, by their word."""
    files = {"ram": render("verilog/array/ram.v.j2", _Leaf(design.model.family, design.name))}
    if in_memory(design):
        files["coefficients"] = coefficient_memory(design)
    return files | {"array": _array(design, core_latency)}


@dataclass(frozen=True, slots=True)
class _Leaf:
    family: str
    name: str


def _array(design: Design, core_latency: int) -> str:
    times, neurons = array_times(design, core_latency), design.rtl.neurons
    bits = max(1, (neurons - 1).bit_length())
    members = neurons // design.model.channels
    given = fields((*design.states, *design.outputs))
    single = constant_in_array(design)
    member_bits = max(1, (members - 1).bit_length())
    word = sum(width_of(s) or 1 for s in design.states)
    view = _View(
        family=design.model.family,
        name=design.name,
        head=design.head,
        neurons=neurons,
        latency=times.latency,
        tick_cycles=times.tick_cycles,
        waits=times.waits,
        held=design.rtl.coefficients == "port",
        by_channel=bool(in_memory(design)),
        layout=layout(design),
        ports=separated(array_ports(design)),
        localparams=tuple(
            constant_declared(c) for c in design.model.coefficients if c.name in single
        ),
        bits=bits,
        shape=_shape(bits),
        last=neurons - 1,
        flight_bits=neurons.bit_length(),
        flight_shape=_shape(neurons.bit_length()),
        neuron_in_next=_following("neuron_in", "last_in", neurons, bits),
        neuron_out_next=_following("neuron_out", "m_axis_tlast", neurons, bits),
        counts_channels=counts_channels(design),
        members=members,
        member_bits=member_bits,
        member_shape=_shape(member_bits),
        last_member=members - 1,
        channel_bits=channel_bits(design),
        channel_shape=_shape(channel_bits(design)),
        word=word,
        word_shape=_shape(word),
        written=_joined([f"out_{s.name}" for s in design.states]),
        delays=travelling(design, times.latency, bits),
        state_registers=tuple(
            f"{declared('reg', f'in_{s.name}', width_of(s))};" for s in design.states
        ),
        state_updates=state_updates(design),
        wires=tuple(
            f"{declared('wire', f'out_{v.name}', width_of(v))};"
            for v in (*design.outputs, *design.states)
        ),
        connections=core_connections(design),
        tdata=_joined([f.filled(f"out_{f.var.name}") for f in reversed(given)]),
    )
    return render("verilog/array/array.v.j2", view)


def _shape(width: int) -> str:
    return f"[{width - 1}:0]"


def _joined(parts: list[str]) -> str:
    alone = len(parts) == 1 and parts[0].isidentifier()
    return parts[0] if alone else f"{{{', '.join(parts)}}}"


def _following(name: str, last: str, neurons: int, bits: int) -> str:
    """Return the neuron after this one; the counter wraps by itself where it can."""
    following = f"{name} + {bits}'d1"
    return following if neurons == 1 << bits else f"{last} ? {bits}'d0 : {following}"
