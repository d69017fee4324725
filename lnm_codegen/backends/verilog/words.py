"""Words that have a meaning in Verilog or its tools, so that no name in a circuit may be one.

VERILOG has the keywords of IEEE 1364-2005. SYSTEM_VERILOG has those that IEEE 1800-2017 adds: most
tools read a `.v` file as SystemVerilog by default. STD has the classes of its package `std`.
ICARUS has words of Verilog-AMS that Icarus reserves in every mode. Verilator makes each port a
member of a C++ class. Keywords and macros of C++ are therefore refused too. VERILATOR has its other
words: names of the C++ library and of SystemC, and the other members of the class.
"""

from lnm_codegen.backends.c.expr import c_meaning

VERILOG = frozenset(
    """always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config
    deassign default defparam design disable edge else end endcase endconfig endfunction endgenerate
    endmodule endprimitive endspecify endtable endtask event for force forever fork function
    generate genvar highz0 highz1 if ifnone incdir include initial inout input instance integer join
    large liblist library localparam macromodule medium module nand negedge nmos nor
    noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1
    pulldown pullup pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat
    rnmos rpmos rtran rtranif0 rtranif1 scalared showcancelled signed small specify specparam
    strong0 strong1 supply0 supply1 table task time tran tranif0 tranif1 tri tri0 tri1 triand trior
    trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor xnor xor""".split()
)
SYSTEM_VERILOG = frozenset(
    """accept_on alias always_comb always_ff always_latch assert assume before bind bins binsof bit
    break byte chandle checker class clocking const constraint context continue cover covergroup
    coverpoint cross dist do endchecker endclass endclocking endgroup endinterface endpackage
    endprogram endproperty endsequence enum eventually expect export extends extern final
    first_match foreach forkjoin global iff ignore_bins illegal_bins implements implies import
    inside int interconnect interface intersect join_any join_none let local logic longint matches
    modport nettype new nexttime null package packed priority program property protected pure rand
    randc randcase randsequence ref reject_on restrict return s_always s_eventually s_nexttime
    s_until s_until_with sequence shortint shortreal soft solve static string strong struct super
    sync_accept_on sync_reject_on tagged this throughout timeprecision timeunit type typedef union
    unique unique0 until until_with untyped var virtual void wait_order weak wildcard with
    within""".split()
)
STD = frozenset({"mailbox", "process", "randomize", "semaphore", "std"})
ICARUS = frozenset({"bool", "wone", "wreal"})
VERILATOR = frozenset(
    """abort atomic_cancel atomic_commit atomic_noexcept bit_vector cdecl complex const_iterator
    const_reference deque far huge interrupt iterator list map multimap multiset near override
    pascal queue reference sc_clock sc_in sc_inout sc_out sc_signal sensitive sensitive_neg
    sensitive_pos set stack synchronized transaction_safe transaction_safe_dynamic type_info
    uint16_t uint32_t uint8_t vector
    atClone contextp eval eval_end_step eval_step eventsPending final hierName modelName name
    nextTimeSlot prepareClone rootp threads trace traceCapable vlSymsp""".split()
)


def verilog_meaning(word: str) -> str:
    """Return the meaning of a word: "a keyword of Verilog"; an empty string for none."""
    if word in VERILOG:
        return "a keyword of Verilog"
    if word in SYSTEM_VERILOG or word in STD:
        return f"a {'keyword' if word in SYSTEM_VERILOG else 'class'} of SystemVerilog"
    if word in ICARUS:
        return "a keyword of Icarus Verilog"
    if c_meaning(word):
        return f"{c_meaning(word)}, and Verilator translates circuits to C++"
    return "a word of Verilator" if word in VERILATOR else ""
