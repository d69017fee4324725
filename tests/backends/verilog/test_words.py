"""Words of Verilog and its tools: refused as names; every other name causes no warning."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.verilog.design import SYSTEM_VERILOG, VERILOG, verilog_meaning
from tests.refusals import refused

IEEE_1800_2017 = """accept_on alias always always_comb always_ff always_latch and assert assign
    assume automatic before begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez
    cell chandle checker class clocking cmos config const constraint context continue cover
    covergroup coverpoint cross deassign default defparam design disable dist do edge else end
    endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface
    endmodule endpackage endprimitive endprogram endproperty endspecify endsequence endtable endtask
    enum event eventually expect export extends extern final first_match for force foreach forever
    fork forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore_bins
    illegal_bins implements implies import incdir include initial inout input inside instance int
    integer interconnect interface intersect join join_any join_none large let liblist library local
    localparam logic longint macromodule matches medium modport module nand negedge nettype new
    nexttime nmos nor noshowcancelled not notif0 notif1 null or output package packed parameter pmos
    posedge primitive priority program property protected pull0 pull1 pulldown pullup
    pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence rcmos real realtime
    ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 s_always
    s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
    signed small soft solve specify specparam static string strong strong0 strong1 struct super
    supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time
    timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union
    unique unique0 unsigned until until_with untyped use uwire var vectored virtual void wait
    wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor""".split()
SUSPECTS = """abs absdelay absdelta abstol above access acos acosh ac_stim aliasparam analog
    analysis asin asinh atan atan2 atanh bool branch ceil connect connectmodule connectrules
    continuous cos cosh ddt ddt_nature ddx discipline discrete domain driver_update enddiscipline
    endconnectrules endnature endparamset exclude exp final_step flicker_noise floor flow from
    ground hypot idt idt_nature idtmod inf infinite initial_step laplace_nd laplace_np laplace_zd
    laplace_zp last_crossing limexp ln log max merged min nature net_resolution noise_table paramset
    potential pow resolveto sin sinh slew split sqrt tan tanh timer transition units white_noise
    wone wreal zi_nd zi_np zi_zd zi_zp
    abort alignas allocator any array auto basic_string bitand bitset bool catch char complex
    concept const_iterator constexpr delete deque double emit errno exception exit explicit false
    far float friend goto hash huge inline int16_t int32_t int8_t interrupt iterator list long main
    malloc map multimap mutable namespace near noexcept nullptr operator optional override pair
    pascal printf private public queue reference register requires set short signal sizeof slots
    span stack switch template throw true try tuple type_info typename uint16_t uint32_t uint64_t
    uint8_t using valarray variant vector volatile wchar_t xor_eq sc_clock sc_in sc_time sensitive
    mailbox option process randomize sample self semaphore std strength triggered unit
    vlog""".split()
"""Words of Verilog-AMS 2.4, of C++ and its library, of SystemC, names that SystemVerilog has."""

READERS = {
    "Icarus": "iverilog -Wall -t null",
    "Icarus-2005": "iverilog -g2005 -Wall -t null",
    "Icarus-2012": "iverilog -g2012 -Wall -t null",
    "Verilator": "verilator --lint-only -Wall",
    "Verilator-2005": "verilator --lint-only -Wall --language 1364-2005",
    "Yosys": "yosys -q read_verilog",
    "Yosys-formal": "yosys -q read_verilog_formal",
}


def test_every_keyword_of_the_standard() -> None:
    """IEEE 1800-2017 includes 1364-2005; no word is in both lists, and each has its meaning."""
    assert set(IEEE_1800_2017) == (VERILOG | SYSTEM_VERILOG)
    assert not VERILOG & SYSTEM_VERILOG
    assert all(verilog_meaning(w).startswith("a keyword of ") for w in IEEE_1800_2017)


@pytest.mark.parametrize(
    "reader", [pytest.param(r, marks=() if r == "Icarus" else pytest.mark.slow) for r in READERS]
)
def test_accepted_words_cause_no_warning(reader: str, tmp_path: Path) -> None:
    """Every accepted suspect is a port of one module, which each tool reads without a warning."""
    tool, *options = READERS[reader].split()
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    names = sorted(word for word in set(SUSPECTS) if not verilog_meaning(word))
    assert len(names) > 100
    ports = "".join(f"    input wire {name},\n" for name in names)
    (tmp_path / "m.v").write_text(
        f"module m (\n{ports}    output wire q_\n);\n    assign q_ = ^{{{', '.join(names)}}};\n"
        "endmodule\n"
    )
    command = [tool, *options, "m.v"]
    if tool == "yosys":
        command = [tool, "-q", "-p", f"{options[1].replace('_formal', ' -sv -formal')} m.v"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:500]
    assert "arning" not in done.stderr + done.stdout


MEANINGS = {
    "wire": "a keyword of Verilog",
    "logic": "a keyword of SystemVerilog",
    "mailbox": "a class of SystemVerilog",
    "wreal": "a keyword of Icarus Verilog",
    "nullptr": "a keyword of C, and Verilator translates circuits to C++",
    "mutable": "a keyword of C++, and Verilator translates circuits to C++",
    "EOF": "a macro of C or of its library, and Verilator translates circuits to C++",
    "near": "a word of Verilator",
    "trace": "a word of Verilator",
}


def test_the_refusal_names_the_language() -> None:
    """In one line, before a file is written."""
    for word, meaning in MEANINGS.items():
        v, x, p = lnm.state("v"), lnm.input("x"), lnm.param(word, init=0.5)
        neuron = lnm.Neuron({v: p * v + x}, v - 1, reset=lnm.hard_reset(v), name="unit")
        remedy = "Rename the state, input, parameter or bound value."
        problem = f"{word!r} is {meaning}"
        with refused(lnm.UnsupportedError, "verilog: unit", problem, remedy=remedy):
            lnm.emit(neuron, "verilog", spec=lnm.Fixed(16, 12))
