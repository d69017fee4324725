"""Wrapper of a network for a system bus: streams for AXI DMA, registers on AXI4-Lite."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.network_verilog.layers import bits_for
from lnm_codegen.backends.network_verilog.top import NetworkDesign
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import literal
from lnm_codegen.backends.verilog.module import ModulePort, controls, port_lines

FORM = "axi"
"""Name of the form of the circuit, and the end of its module's name."""
_WORD, _ROW = 32, 0x10
"""Bits of a register, and the address of the lowest word of a row."""


@dataclass(frozen=True, slots=True)
class RowWord:
    """A register with a part of a row, beyond the lowest word."""

    name: str
    address: str
    low: int
    high: int
    bits: int
    slice: str


@dataclass(frozen=True, slots=True)
class AxiView:
    """Widths, constants and expressions of the wrapper and of its testbench."""

    in_bits: int
    out_bits: int
    label_bits: int
    core_in_bits: int
    core_out_bits: int
    beat_bits: int
    zero: int
    filler: str
    limited: str
    limited_slice: str
    low: str
    high: str
    score: str
    memory_bits: int
    address_bits: int
    data_bits: int
    words: tuple[RowWord, ...]
    to_words: str
    row: str
    depths: list[str]
    memory_read: str
    address_read: str
    unused: str


def axi_view(design: NetworkDesign) -> AxiView:
    """Return what both the wrapper and its testbench are rendered from."""
    taken, given, label = design.stream_widths
    wide_in, wide_out = _power(taken), _power(given)
    own, half = design.network.input, 1 << (wide_in - 1)
    low, high = literal(own.low, wide_in), literal(own.high, wide_in)
    limited = "given" if own.high == half - 1 else f"given > {high} ? {high} : given"
    if own.low > -half:
        limited = f"given < {low} ? {low} : {limited}"
    zero, mask = min(max(0, own.low), own.high), (1 << taken) - 1
    memory, address, data = design.load_widths.values() if design.loadable else (1, 1, 1)
    words = tuple(_word(j, data) for j in range(1, -(-data // _WORD)))
    lowest = f"s_axi_wdata[{data - 1}:0]" if data < _WORD else "s_axi_wdata"
    names = ", ".join((*(word.name for word in reversed(words)), lowest))
    return AxiView(
        in_bits=wide_in,
        out_bits=wide_out,
        label_bits=label,
        core_in_bits=taken,
        core_out_bits=given,
        beat_bits=bits_for(design.network.sample_size),
        zero=zero,
        filler=f"{taken}'d{zero & mask}",
        limited=limited,
        limited_slice=f"[{taken - 1}:0]" if wide_in > taken else "",
        low=low,
        high=high,
        score=_padded("m_score", given, wide_out, f"m_score[{given - 1}]"),
        memory_bits=memory,
        address_bits=address,
        data_bits=data,
        words=words,
        to_words="".join(f" || to_{word.name}" for word in words),
        row=f"{{{names}}}" if words else lowest,
        depths=[
            f"{memory + 1}'d{m.number}: depth = {address + 1}'d{len(m.memory.rows)};"
            for m in design.memories
        ],
        memory_read=_padded("memory", memory + 1, _WORD, "1'b0"),
        address_read=_padded("address", address + 1, _WORD, "1'b0"),
        unused=", s_axi_wdata" + (", limited" if wide_in > taken else ""),
    )


def axi_ports(design: NetworkDesign) -> tuple[ModulePort, ...]:
    """Return the ports of `<name>_axi`."""
    axi = axi_view(design)

    def data(direction: str, name: str, width: int, kind: str = "wire") -> ModulePort:
        return ModulePort(direction, name, width, kind, signed=False)

    return (
        *controls("input", "aclk", "aresetn", "s_axis_tvalid"),
        *controls("output", "s_axis_tready"),
        data("input", "s_axis_tdata", axi.in_bits),
        *controls("input", "s_axis_tlast"),
        *controls("output", "m_axis_tvalid"),
        *controls("input", "m_axis_tready"),
        data("output", "m_axis_tdata", axi.out_bits),
        data("output", "m_axis_tkeep", axi.out_bits // 8),
        data("output", "m_axis_tuser", axi.label_bits),
        *controls("output", "m_axis_tlast"),
        *controls("input", "s_axi_awvalid"),
        *controls("output", "s_axi_awready"),
        data("input", "s_axi_awaddr", 8),
        *controls("input", "s_axi_wvalid"),
        *controls("output", "s_axi_wready"),
        data("input", "s_axi_wdata", 32),
        data("input", "s_axi_wstrb", 4),
        ModulePort("output", "s_axi_bvalid", kind="reg"),
        *controls("input", "s_axi_bready"),
        data("output", "s_axi_bresp", 2, "reg"),
        *controls("input", "s_axi_arvalid"),
        *controls("output", "s_axi_arready"),
        data("input", "s_axi_araddr", 8),
        ModulePort("output", "s_axi_rvalid", kind="reg"),
        *controls("input", "s_axi_rready"),
        data("output", "s_axi_rdata", 32, "reg"),
        data("output", "s_axi_rresp", 2),
    )


def axi_files(design: NetworkDesign, samples: int, patience: int) -> dict[str, str]:
    """Return the wrapper and its testbench."""
    name, axi = design.name, axi_view(design)
    view = {
        "family": name,
        "name": name,
        "network": design.network,
        "axi": axi,
        "loadable": design.loadable,
    }
    ports = port_lines(axi_ports(design))
    bench = view | {
        "vectors": f"{name}_inputs.hex and {name}_results.hex",
        "samples": samples,
        "patience": patience,
        "loads": design.memories,
        "writes": sum(len(loaded.memory.rows) for loaded in design.memories),
    }
    return {
        f"rtl/{name}_axi.v": render("network_verilog/axi.v.j2", view | {"ports": ports}),
        f"tb/{name}_axi_tb.v": render("network_verilog/axi_tb.v.j2", bench),
    }


def _power(bits: int) -> int:
    """Return the least number of whole bytes, a power of two, in bits."""
    return max(8, 1 << (bits - 1).bit_length())


def _padded(name: str, width: int, wide: int, bit: str) -> str:
    return name if width == wide else f"{{{{{wide - width}{{{bit}}}}}, {name}}}"


def _word(number: int, data: int) -> RowWord:
    low = _WORD * number
    high = min(low + _WORD, data) - 1
    bits = high - low + 1
    place = f"{_ROW + 4 * number:02x}"
    return RowWord(
        f"row_{number}", place, low, high, bits, f"[{bits - 1}:0]" if bits < _WORD else ""
    )
