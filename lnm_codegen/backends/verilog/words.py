"""Words that no state, input or parameter of a circuit may have as its name.

VERILOG has the keywords of IEEE 1364-2005, SYSTEM_VERILOG those that IEEE 1800-2017 adds: most
tools read a `.v` file as SystemVerilog by default. STD has the classes of its package `std`.
ICARUS has words of Verilog-AMS that Icarus keeps in every mode. Verilator makes a member of a C++
class of every port: CPP and VERILATOR have the words that C++ and that class keep.
"""

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
CPP = frozenset(
    """abort alignas alignof and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bit_vector
    bitand bitor catch cdecl char char16_t char32_t compl complex concept const_cast const_iterator
    const_reference constexpr decltype delete deque double dynamic_cast explicit false far float
    friend goto huge inline interrupt iterator list long map multimap multiset mutable namespace
    near noexcept not_eq nullptr operator or_eq override pascal private public queue reference
    register reinterpret_cast requires set short sizeof stack static_assert static_cast switch
    synchronized template thread_local throw transaction_safe transaction_safe_dynamic true try
    type_info typeid typename uint16_t uint32_t uint8_t using vector volatile wchar_t xor_eq
    sc_clock sc_in sc_inout sc_out sc_signal sensitive sensitive_neg sensitive_pos""".split()
)
VERILATOR = frozenset(
    """atClone contextp eval eval_end_step eval_step eventsPending final hierName modelName name
    nextTimeSlot prepareClone rootp threads trace traceCapable vlSymsp""".split()
)
TAKEN = VERILOG | SYSTEM_VERILOG | STD | ICARUS | CPP | VERILATOR
