"""The machine: memory, divergence, barriers, warps, races, garbage, counters."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.ptx import exact
from tests.ptx.arithmetic import NAN
from tests.ptx.counters import passes, sectors
from tests.ptx.kernels import kernel, run
from tests.ptx.machine import Machine
from tests.ptx.memory import Fault, Memory
from tests.ptx.program import UnknownPtx, parse

THREAD = "mov.u32 %r30, %tid.x; mov.u32 %r31, %ctaid.x; mov.u32 %r29, %ntid.x; " \
    "mad.lo.u32 %r32, %r31, %r29, %r30; " + "".join(
        f"ld.param.u64 %d{20 + k}, [k_{k}]; mad.wide.u32 %d{10 + k}, %r32, 4, %d{20 + k}; "
        for k in range(3)
    )  # fmt: skip
"""%r30 thread, %r31 block, %r32 both; %d20... arrays, %d10... the thread's number of 4 bytes."""

HELD = "mov.u32 %r20, held; mad.lo.u32 %r21, %r30, 4, %r20; "
"""%r21: the thread's number in shared memory."""

modes = pytest.mark.parametrize(
    "machine", [Machine(), Machine("warps", seed=1), Machine("warps", seed=2)],
    ids=lambda m: f"{m.mode}-{m.seed}",
)  # fmt: skip


def words(count: int) -> np.ndarray:
    """Return zeros that begin at a multiple of 256 bytes, as those of a GPU do."""
    raw = np.zeros(4 * count + 256, np.uint8)
    return raw[-raw.ctypes.data % 256 :][: 4 * count].view(np.uint32)


# ---- memory ----


@pytest.mark.parametrize("space", ["global", "shared", "local"])
@pytest.mark.parametrize(("kind", "lanes"), [("b8", 1), ("b16", 1), ("b32", 1), ("b64", 1),
                                             ("v2.b32", 2), ("v4.b32", 4),
                                             ("v2.b64", 2)])  # fmt: skip
def test_loads_and_stores(space: str, kind: str, lanes: int) -> None:
    """Every width, in every space; threads have places of their own."""
    width = int(kind.rsplit("b")[1])
    size = width // 8 * lanes
    register = {8: "%h", 16: "%h", 32: "%r", 64: "%d"}[width]
    items = ", ".join(f"{register}{k}" for k in range(lanes))
    items = f"{{{items}}}" if lanes > 1 else items
    place = {"global": "%d19", "shared": "%r20", "local": "%d19"}[space]
    there = {
        "global": "mov.u64 %d19, %d18; ",
        "shared": f"mov.u32 %r20, held; mad.lo.u32 %r20, %r30, {size}, %r20; ",
        "local": "mov.u64 %d19, here; ",
    }[space]  # fmt: skip
    declared = ".local .align 16 .b8 here[16]; " if space == "local" else ""
    text = (
        f"{declared}{THREAD} mad.wide.u32 %d17, %r32, {size}, %d20;"
        f"mad.wide.u32 %d18, %r32, {size}, %d21;"
        f"{there} ld.global.{kind} {items}, [%d17]; st.{space}.{kind} [{place}], {items};"
        f"ld.{space}.{kind} {items}, [{place}]; st.global.{kind} [%d18], {items}; ret;"
    )
    given = np.random.default_rng(0).integers(0, 256, 64 * size, np.uint8)
    given = np.concatenate([given, np.zeros(-given.size % 16, np.uint8)])
    out = np.zeros_like(given)
    run(kernel(text, shared=32 * 16), given, out, grid=2)
    np.testing.assert_array_equal(out, given)


def test_a_load_extends_its_number() -> None:
    """With the sign, or zeros, in a wider register; nc is a load as any other."""
    given, out = np.array([0x80] * 128, np.uint8), words(32)
    for kind, expected in (("s8", 0xFFFFFF80), ("u8", 0x80), ("b8", 0x80)):
        run(
            kernel(THREAD + f"ld.global.nc.{kind} %r0, [%d10]; st.global.u32 [%d11], %r0; ret;"),
            given,
            out,
        )
        assert (out == expected).all()


BAD = {
    "before": ("ld.global.u32 %r0, [%d20+-4]", "4 bytes at byte -4 of 128"),
    "beyond": ("ld.global.u32 %r0, [%d10+4]", "4 bytes at byte 128 of 128"),
    "partly": ("ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%d20+120]", "misaligned global access"),
    "far": ("st.global.u32 [%d20+1048576], %r0", "4 bytes at byte 1048576 of 128"),
    "misaligned": ("st.global.u32 [%d20+2], %r0", "misaligned global access of 4"),
    "null": ("ld.global.u32 %r0, [%d22]", "no allocation"),
    "garbage": ("ld.global.u64 %d0, [%d7]", "misaligned"),
    "shared": ("st.shared.u32 [%r21+4], %r0", "shared access of 4 bytes at byte 128 of 128"),
    "shared off": ("ld.shared.u32 %r0, [%r20+1]", "misaligned shared"),
    "local": ("ld.local.u32 %r0, [%d8]", "local access"),
    "param": ("ld.param.u64 %d0, [k_3+8]", "param access of 8 bytes at byte 32 of 32"),
}  # fmt: skip


@modes
@pytest.mark.parametrize("case", BAD)
def test_accesses_that_raise(case: str, machine: Machine) -> None:
    """Outside of an allocation, misaligned, null; the message has instruction and place."""
    text, message = BAD[case]
    text = f".local .align 4 .b8 here[8]; mov.u64 %d8, 8; {THREAD}{HELD}{text}; ret;"
    with pytest.raises(Fault, match="k, instruction") as found:
        run(kernel(text, shared=128), words(32), words(32), machine=machine)
    assert message in str(found.value)


def test_one_thread_outside_is_enough() -> None:
    """And a guard keeps it out."""
    text = THREAD + "setp.lt.u32 %p0, %r30, 31; {} ld.global.u32 %r0, [%d10]; ret;"
    run(kernel(text.format("@%p0")), words(31))
    with pytest.raises(Fault, match="byte 124 of 124"):
        run(kernel(text.format("")), words(31))


def test_freed_memory_raises() -> None:
    """It is not taken for what comes after it, or beside it."""
    memory, made = Memory(), kernel(THREAD + "ld.global.u32 %r0, [%d10]; ret;")
    first = words(32)
    address = memory.add(first)
    run(made, address, memory=memory)
    memory.free(address)
    memory.add(words(32))
    with pytest.raises(Fault, match="freed memory"):
        run(made, address, memory=memory)
    assert memory.add(first) != address


def test_addresses_keep_the_remainder_of_the_memory() -> None:
    """So that kernels see the alignment that the caller gave."""
    raw = np.zeros(1024, np.uint8)
    for shift in (0, 4, 16):
        one = raw[-raw.ctypes.data % 256 + shift :][:64]
        assert Memory().add(one) % 256 == shift
    with pytest.raises(ValueError, match="gaps"):
        Memory().add(np.zeros((4, 4))[:, ::2])


def test_an_access_across_two_allocations() -> None:
    """Threads of one instruction may reach different arrays; one that is freed raises."""
    text = THREAD + (
        "setp.lt.u32 %p0, %r30, 16; selp.b64 %d0, %d10, %d11, %p0; ld.global.u32 %r0, [%d0];"
        "st.global.u32 [%d12], %r0; ret;"
    )
    a, b, out = np.arange(32, dtype="u4"), np.arange(100, 132, dtype="u4"), words(32)
    run(kernel(text), a, b, out)
    np.testing.assert_array_equal(out, np.where(np.arange(32) < 16, a, b))
    memory = Memory()
    memory.free(address := memory.add(b))
    with pytest.raises(Fault, match="freed memory"):
        run(kernel(text), a, address, out, memory=memory)


# ---- text ----


def test_variables_and_parameters() -> None:
    """Structs by value, static and dynamic shared memory, a table, scopes with their names."""
    text = """
    .global .align 4 .b32 table[3] = {7, 0x10, -1};
    .shared .align 8 .b8 first[12];
    .extern .shared .align 16 .b8 last[];
    .visible .entry one(.param .align 8 .b8 one_0[24], .param .u32 one_1,
        .param .u64 .ptr .global .align 1 one_2)
    .reqntid 32, 1, 1
    {
        .reg .b32 %r<4>; .reg .b64 %d<9>;
        .shared .align 16 .b8 second[4];
        // a comment; with { braces }
        ld.param.u64 %d0, [one_0+16];
        { .reg .b32 %t; mov.u32 %t, last; mov.u32 %r0, %t; }
        { .reg .b64 %t; mov.u64 %t, table; ld.global.u32 %r1, [%t+4]; }
        mov.u32 %r2, second;
        ld.param.u32 %r3, [one_1];
        st.global.v4.b32 [%d0], {%r0, %r1, %r2, %r3}; /* all
        threads the same */ ret;
    }
    .entry two() { ret; }
    """
    kernels = parse(text)
    assert set(kernels) == {"one", "two"}
    one = kernels["one"]
    assert (one.params["one_1"], one.params["one_2"], one.param_bytes) == ((24, 4), (32, 8), 40)
    assert (one.shared, one.threads) == (32, (32, 32))
    out, memory = words(4), Memory()
    params = np.array([0, 0, memory.add(out), 5, 0], "u8").tobytes()
    Machine().launch(one, 1, 32, 64, params, memory)
    assert list(out) == [32, 16, 16, 5]
    for block, given in ((64, params), (32, params[:-8])):
        with pytest.raises(Fault, match="one"):
            Machine().launch(one, 1, block, 64, given, memory)


@modes
def test_calls(machine: Machine) -> None:
    """A function called twice: registers, labels, memory of its own; each thread takes its path."""
    text = """
    .func (.param .align 8 .b8 result[8]) twice (.param .b32 of) ;
    .global .align 4 .b32 table[2] = {100, 200};
    .entry one(.param .u64 out)
    {
        .reg .b32 %r<4>; .reg .b64 %d<9>; .reg .pred %p<2>;
        mov.u32 %r0, %tid.x; ld.param.u64 %d0, [out]; mad.wide.u32 %d0, %r0, 4, %d0;
        mov.u32 %r1, 5; setp.lt.u32 %p0, %r0, 16; @%p0 bra $L_end;
        { .param .b32 param0; .param .align 8 .b8 back[8];
          st.param.b32 [param0], %r0;
          call.uni (back), twice, (param0);
          ld.param.b32 %r1, [back+4]; }
        { .param .align 8 .b8 back[8]; .param .b32 param0;
          st.param.b32 [param0], %r1;
          call (back), twice, (param0);
          ld.param.b32 %r1, [back+4]; }
    $L_end: st.global.b32 [%d0], %r1; ret;
    }
    .func (.param .align 8 .b8 result[8]) twice (.param .b32 of)
    {
        .local .align 4 .b8 held[8]; .reg .b32 %r<4>; .reg .b64 %d<2>; .reg .pred %p<2>;
        ld.param.b32 %r1, [of]; setp.gt.u32 %p1, %r1, 40; add.u32 %r0, %r1, 1;
        st.param.b32 [result+4], %r0; @%p1 ret;
    $L_again: mov.u64 %d0, held; st.local.b32 [%d0+4], %r1; ld.local.b32 %r2, [%d0+4];
        add.u32 %r2, %r2, %r1; setp.eq.u32 %p1, %r2, 0; @%p1 bra $L_again;
        st.param.b32 [result+4], %r2; ret;
    }
    """
    out, memory = words(32), Memory()
    params = np.array([memory.add(out)], "u8").tobytes()
    Machine(machine.mode, machine.seed).launch(parse(text)["one"], 1, 32, 0, params, memory)
    twice = [2 * k if k <= 40 else k + 1 for k in range(64)]
    assert list(out) == [5] * 16 + [twice[twice[k]] for k in range(16, 32)]


@pytest.mark.parametrize(
    "text", [".branchtargets a;", "add.s32 %q0, %r0, %r1;", "bra nowhere;", ".reg .b128 %x;"]
)
def test_text_that_is_not_known_raises(text: str) -> None:
    """A statement, a register, a label, a type."""
    with pytest.raises(UnknownPtx):
        run(kernel(text + " ret;"))


# ---- order ----


@modes
def test_divergence_and_joining(machine: Machine) -> None:
    """Loops of different lengths, an early end, branches into each other; joined they shuffle."""
    text = (
        THREAD
        + """
        mov.u32 %r0, 0; mov.u32 %r1, 0;
    again:
        setp.ge.u32 %p0, %r0, %r30; @%p0 bra out;
        add.u32 %r1, %r1, %r0; add.u32 %r0, %r0, 1;
        and.b32 %r2, %r0, 1; setp.eq.u32 %p1, %r2, 0; @!%p1 bra odd;
        add.u32 %r1, %r1, 1000; bra.uni again;
    odd: bra.uni again;
    out:
        shfl.sync.idx.b32 %r3, %r1, 5, 31, -1;
        add.u32 %r1, %r1, %r3; st.global.u32 [%d10], %r1;
        setp.lt.u32 %p2, %r32, 40; @%p2 exit; st.global.u32 [%d11], 1; ret;
    """.replace("st.global.u32 [%d11], 1", "mov.u32 %r9, 1; st.global.u32 [%d11], %r9")
    )
    out, late = words(128), words(128)
    run(kernel(text), out, late, grid=2, block=64, machine=machine)
    alone = [sum(range(t)) + 1000 * (t // 2) for t in range(64)]
    expected = np.array(alone * 2) + np.repeat([alone[5], alone[37]] * 2, 32)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(late, np.arange(128) >= 40)


@modes
def test_threads_that_come_to_a_label_on_three_ways(machine: Machine) -> None:
    """By a jump, by a jump over others that wait before it, and by falling through."""
    text = THREAD + (
        "mov.u32 %r0, 0; setp.lt.u32 %p0, %r30, 9; setp.lt.u32 %p1, %r30, 20;"
        "@%p0 bra LAST; @%p1 bra MIDDLE; mov.u32 %r0, 2; bra.uni LAST;"
        "MIDDLE: mov.u32 %r0, 1;"
        "LAST: bar.sync 0; st.global.u32 [%d11], %r0; ret;"
    )
    out = words(32)
    run(kernel(text), words(32), out, machine=machine)
    np.testing.assert_array_equal(out, [0] * 9 + [1] * 11 + [2] * 12)


@modes
def test_a_barrier_orders_shared_memory(machine: Machine) -> None:
    """Each thread reads what the last of the block wrote, twice."""
    text = (
        THREAD
        + HELD
        + """
        st.shared.u32 [%r21], %r32; bar.sync 0;
        sub.u32 %r0, 63, %r30; mad.lo.u32 %r1, %r0, 4, %r20; ld.shared.u32 %r2, [%r1]; bar.sync 0;
        st.shared.u32 [%r21], %r2; bar.sync 0; ld.shared.u32 %r3, [%r1]; add.u32 %r3, %r3, %r2;
        st.global.u32 [%d10], %r3; ret;
    """
    )
    made, out = kernel(text, shared=256), words(128)
    run(made, out, grid=2, block=64, machine=machine)
    thread, block = np.arange(128) % 64, np.arange(128) // 64
    np.testing.assert_array_equal(out, 64 * block + thread + 64 * block + 63 - thread)
    for index in made.where("bar"):
        with pytest.raises(Fault, match=r"race: (reads|writes).* since the last barrier"):
            run(made.without(index), out, grid=2, block=64, machine=machine)


@modes
@pytest.mark.parametrize(
    "text",
    [
        "setp.lt.u32 %p0, %r30, 40; @%p0 bra done; bar.sync 0; done: ret;",
        "setp.lt.u32 %p0, %r30, 32; @%p0 bra one; bar.sync 0; ret; one: bar.sync 0; ret;",
        "setp.eq.u32 %p0, %r30, 3; @%p0 ret; shfl.sync.bfly.b32 %r0, %r30, 1, 31, -1; ret;",
        "setp.eq.u32 %p0, %r30, 3; @%p0 bra done; bar.warp.sync -1; done: ret;",
        "setp.eq.u32 %p0, %r30, 3; @%p0 bra done; mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 "
        "{%d0, %d1}, {%d2}, {%d3}, {%d0, %d1}; done: ret;",
    ],
)
def test_deadlocks(text: str, machine: Machine) -> None:
    """Threads that never come, or wait elsewhere."""
    with pytest.raises(Fault, match="deadlock"):
        run(kernel(THREAD + text), block=64, machine=machine)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@%p0 bar.sync 0; ret;", "a guard"),
        ("shfl.sync.idx.b32 %r0, %r1, 0, 31, 255; ret;", "fewer threads"),
    ],
)
def test_synchronisation_of_some(text: str, message: str) -> None:
    """Of a part of the threads is not known."""
    with pytest.raises(Fault, match=message):
        run(kernel(THREAD + text))


@modes
def test_a_warp_waits_for_its_threads(machine: Machine) -> None:
    """Those that come late, by another path, take part."""
    text = (
        THREAD
        + """
        setp.lt.u32 %p0, %r30, 7; mov.u32 %r1, %r30; @%p0 bra join; add.u32 %r1, %r1, 100;
    join: bar.warp.sync -1; shfl.sync.bfly.b32 %r2, %r1, 31, 31, -1; st.global.u32 [%d10], %r2; ret;
    """
    )
    out = words(64)
    run(kernel(text), out, block=64, machine=machine)
    own = np.where(np.arange(64) < 7, np.arange(64), np.arange(64) + 100)
    np.testing.assert_array_equal(out, own.reshape(2, 32)[:, ::-1].reshape(-1))


SHUFFLES = {
    "bfly": lambda lane, by, low, high: (lane ^ by, lane ^ by <= high),
    "down": lambda lane, by, low, high: (lane + by, lane + by <= high),
    "up": lambda lane, by, low, high: (lane - by, lane - by >= low),
    "idx": lambda lane, by, low, high: (low + by % (high - low + 1), True),
}


@pytest.mark.parametrize("mode", SHUFFLES)
@pytest.mark.parametrize("width", [32, 16, 4])
@pytest.mark.parametrize("by", [0, 1, 2, 3, 15, 31])
def test_shuffles(mode: str, width: int, by: int) -> None:
    """Within segments of a warp; out of them a thread keeps its own and is marked."""
    clamp = (32 - width) << 8 | (0 if mode == "up" else 31)
    text = (
        THREAD
        + f"""
        ld.global.u32 %r0, [%d10]; shfl.sync.{mode}.b32 %r1|%p0, %r0, {by}, {clamp}, -1;
        selp.b32 %r2, 1, 0, %p0; st.global.u32 [%d11], %r1; st.global.u32 [%d12], %r2; ret;
    """
    )
    given, out, mark = np.arange(1000, 1064, dtype="u4"), words(64), words(64)
    run(kernel(text), given, out, mark, block=64)
    for thread in range(64):
        lane = thread % 32
        low = lane // width * width
        source, inside = SHUFFLES[mode](lane, by, low, low + width - 1)
        if mode == "idx":
            source, inside = low + by % width, True
        assert mark[thread] == inside
        assert out[thread] == given[thread // 32 * 32 + (source if inside else lane)]


MATRICES = """
    mad.wide.u32 %d16, %r32, 16, %d20; mad.lo.u32 %r22, %r30, 16, %r20;
    xor.b32 %r23, %r30, 1; mad.lo.u32 %r24, %r23, 16, %r20; mad.wide.u32 %d18, %r32, 16, %d21;
"""
"""%d16, %d18: the thread's 16 bytes in global memory; %r22: in shared memory; %r24: another's."""


def held(rows: np.ndarray, m: int, t: int, transposed: bool) -> list[int]:
    """Return the numbers that thread t holds of matrix m, whose rows are pairwise swapped."""
    matrix = rows[[(8 * m + r) ^ 1 for r in range(8)]]
    return list((matrix.T if transposed else matrix)[t // 4][2 * (t % 4) :][:2])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix(count: int, transposed: bool) -> None:
    """Thread t has the numbers 2*(t % 4) and the next of row t // 4, or column, of each matrix."""
    items = ", ".join(f"%r{k}" for k in range(count))
    stores = "".join(f"st.global.b32 [%d18+{4 * k}], %r{k};" for k in range(count))
    text = THREAD + HELD + MATRICES + f"""
        ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%d16];
        st.shared.v4.b32 [%r22], {{%r0, %r1, %r2, %r3}}; bar.sync 0;
        ldmatrix.sync.aligned.m8n8.x{count}{".trans" * transposed}.shared.b16 {{{items}}}, [%r24];
        {stores} ret;
    """  # fmt: skip
    given, out = np.arange(2 * 32 * 8, dtype=np.uint16), np.zeros((2, 32, 4, 2), np.uint16)
    run(kernel(text, shared=512), given, out, grid=2)
    for block, rows in enumerate(given.reshape(2, 32, 8)):
        for m, t in np.ndindex(count, 32):
            assert list(out[block, t, m]) == held(rows, m, t, transposed)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stmatrix(count: int, transposed: bool) -> None:
    """The reverse; without an address of its own a thread's row of shared memory stays."""
    items = ", ".join(f"%r{k}" for k in range(count))
    text = THREAD + HELD + MATRICES + f"""
        ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%d16];
        stmatrix.sync.aligned.m8n8.x{count}{".trans" * transposed}.shared.b16 [%r24], {{{items}}};
        bar.sync 0; ld.shared.v4.b32 {{%r4, %r5, %r6, %r7}}, [%r22];
        st.global.v4.b32 [%d18], {{%r4, %r5, %r6, %r7}}; ret;
    """  # fmt: skip
    given, out = np.arange(2 * 32 * 8, dtype=np.uint16), np.zeros((2, 32, 8), np.uint16)
    run(kernel(text, shared=512), given, out, grid=2)
    for block, numbers in enumerate(given.reshape(2, 32, 4, 2)):
        for m, t in np.ndindex(count, 32):
            assert list(numbers[t, m]) == held(out[block], m, t, transposed)
        assert (out[block, 8 * count :] == 0xFFFF).all()


@modes
@pytest.mark.parametrize("name", ["ldmatrix", "stmatrix"])
def test_rows_of_matrices_are_accesses(name: str, machine: Machine) -> None:
    """Of 16 bytes: aligned, within shared memory, in an order with those of other warps."""
    form = f"{name}.sync.aligned.m8n8.x4.shared.b16 "
    form += "{r}, [{at}]; " if name == "ldmatrix" else "[{at}], {r}; "
    form = form.replace("{r}", "{{%r0, %r1, %r2, %r3}}")
    text = THREAD + HELD + "mad.lo.u32 %r22, %r30, 16, %r20; xor.b32 %r23, %r22, 512; "
    store = "st.shared.v4.b32 [%r22], {%r30, %r30, %r30, %r30}; "
    for at, message in (("%r22+8", "misaligned shared"), ("%r22+16", "16 bytes at byte 1024")):
        with pytest.raises(Fault, match=message):
            run(kernel(text + form.format(at=at) + "ret;", shared=1024), block=64, machine=machine)
    ordered = text + store + "bar.sync 0; " + form.format(at="%r23") + "ret;"
    run(kernel(ordered, shared=1024), block=64, machine=machine)
    with pytest.raises(Fault, match=r"race: (reads|writes) what another warp"):
        run(kernel(ordered.replace("bar.sync 0; ", ""), shared=1024), block=64, machine=machine)


Place = Callable[[int, int, int], tuple[int, int]]
PRODUCTS: dict[str, tuple[Place, Place, Place]] = {
    "m16n8k16.row.col.f32.bf16.bf16.f32": (
        lambda g, t, i: (g if i in (0, 1, 4, 5) else g + 8, 2 * t + i % 2 + (8 if i >= 4 else 0)),
        lambda g, t, i: (2 * t + i % 2 + (8 if i >= 2 else 0), g),
        lambda g, t, i: (g if i < 2 else g + 8, 2 * t + i % 2),
    ),
    "m16n8k8.row.col.f32.tf32.tf32.f32": (
        lambda g, t, i: (g if i in (0, 2) else g + 8, t if i < 2 else t + 4),
        lambda g, t, i: (t if i == 0 else t + 4, g),
        lambda g, t, i: (g if i < 2 else g + 8, 2 * t + i % 2),
    ),
    "m8n8k4.row.col.f64.f64.f64.f64": (
        lambda g, t, i: (g, t), lambda g, t, i: (t, g), lambda g, t, i: (g, 2 * t + i),
    ),
}  # fmt: skip
"""Form of mma -> row and column of number i of thread 4*g + t, of A, B and C, in PTX's manual."""
BITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bf16": lambda a: (a.astype("f4").view("u4") >> 16).astype("u2"),
    "tf32": lambda a: a.astype("f4").view("u4") | 0x1FFF,  # bits that are to be ignored
    "f32": lambda a: a.astype("f4").view("u4"),
    "f64": lambda a: a.astype("f8").view("u8"),
}


def shapes_of(form: str) -> list[tuple[int, int]]:
    m, n, k = map(int, re.findall(r"\d+", form.split(".")[0]))
    return [(m, k), (k, n), (m, n)]


def multiplied(
    form: str, matrices: list[np.ndarray], machine: Machine, turned: int | None = None
) -> np.ndarray:
    """Return D of two warps, from A, B and C; the registers of `turned` are reversed."""
    kind, to = form.split(".")[4], form.split(".")[-1]
    register, size = ("%d", 8) if kind == "f64" else ("%r", 4)
    text, lists, given = THREAD + "ld.param.u64 %d23, [k_3]; ", [], []
    for n, (matrix, place) in enumerate(zip(matrices, PRODUCTS[form], strict=True)):
        count = matrix[0].size // 32
        dealt = [
            [m[place(t >> 2, t % 4, i)] for i in range(count)] for m in matrix for t in range(32)
        ]
        words = BITS[to if n == 2 else kind](np.array(dealt)).view(f"u{size}")
        given.append(words)
        names = [f"{register}{(0, 4, 6)[n] + k}" for k in range(words.shape[1])]
        lists.append(names[::-1] if n == turned else names)
        text += f"mad.wide.u32 %d15, %r32, {size * len(names)}, %d{20 + n}; "
        text += "".join(
            f"ld.global.b{8 * size} {x}, [%d15+{size * k}]; " for k, x in enumerate(names)
        )
    a, b, c = ("{" + ", ".join(names) + "}" for names in lists)
    text += f"mma.sync.aligned.{form} {c}, {a}, {b}, {c}; "
    text += f"mad.wide.u32 %d15, %r32, {size * len(names)}, %d23; "
    text += "".join(f"st.global.b{8 * size} [%d15+{size * k}], {x}; " for k, x in enumerate(names))
    out = np.zeros((64, len(names)), f"f{size}")
    run(kernel(text + "ret;"), *given, out, block=64, machine=machine)
    found = np.zeros_like(matrices[2], f"f{size}")
    for warp, t, i in np.ndindex(2, 32, len(names)):
        found[warp][PRODUCTS[form][2](t >> 2, t % 4, i)] = out[32 * warp + t, i]
    return found


@modes
@pytest.mark.parametrize("form", PRODUCTS)
def test_products_of_matrices(form: str, machine: Machine) -> None:
    """The product of whole numbers, in the layout of the manual and in no other."""
    rng = np.random.default_rng(0)
    matrices = [rng.integers(-8, 9, (2, *shape)).astype(float) for shape in shapes_of(form)]
    expected = matrices[0] @ matrices[1] + matrices[2]
    np.testing.assert_array_equal(multiplied(form, matrices, machine), expected)
    for n in (2,) if "f64" in form else (0, 1, 2):
        assert not np.array_equal(multiplied(form, matrices, machine, n), expected)


@pytest.mark.parametrize("form", PRODUCTS)
def test_sums_of_products(form: str) -> None:
    """Of bfloat16 and TF32 the exact sum, rounded once; of float64 a chain of fma. One NaN."""
    rng, f = np.random.default_rng(1), exact.F64 if "f64" in form else exact.F32
    fraction = {"bf16": 7, "tf32": 10, "f64": 52}[form.split(".")[4]]

    def drawn(shape: tuple[int, int], fraction: int) -> np.ndarray:
        size = (2**fraction + rng.integers(0, 2**fraction, (2, *shape))) / 2.0**fraction
        return size * rng.choice([-1, 1], size.shape) * 2.0 ** rng.integers(-3, 4, size.shape)

    a, b, c = (
        drawn(x, min(fraction + 52 * (n == 2), f.fraction)) for n, x in enumerate(shapes_of(form))
    )
    found = multiplied(form, [a, b, c], Machine())
    for warp, row, column in np.ndindex(*c.shape):
        x, y, z = a[warp, row], b[warp, :, column], c[warp, row, column]
        if "f64" in form:
            total = int(z.view("u8"))
            for p, q in zip(x, y, strict=True):
                total = exact.fma(f, int(p.view("u8")), int(q.view("u8")), total) or 0
        else:
            terms = [Fraction(p) * Fraction(q) for p, q in zip(x, y, strict=True)]
            total = f.nearest(sum(terms, Fraction(z)))
        assert int(found[warp, row, column].view(f"u{f.width // 8}")) == total
    a[0, 3], b[0, :, 5] = np.inf, 0
    found = multiplied(form, [a, b, c], Machine())
    assert np.isnan(found[0, 3, 5])
    assert found[0, 3, 5].tobytes() == NAN[found.dtype].tobytes()


# ---- copies ----


@modes
@pytest.mark.parametrize(("cache", "size"), [("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)])
def test_copies(cache: str, size: int, machine: Machine) -> None:
    """To shared memory, seen after a wait and a barrier; of size 0 zeros, and nothing is read."""
    moves = "".join(
        f"ld.shared.u32 %r0, [%r23+{k}]; st.global.u32 [%d14+{k}], %r0; " for k in range(0, size, 4)
    )
    text = THREAD + HELD + f"""
        mad.wide.u32 %d13, %r32, {size}, %d20; mad.wide.u32 %d14, %r32, {size}, %d21;
        mad.lo.u32 %r22, %r30, {size}, %r20; xor.b32 %r23, %r30, 63;
        mad.lo.u32 %r23, %r23, {size}, %r20; setp.lt.u32 %p0, %r30, 40;
        selp.b32 %r24, {size}, 0, %p0; selp.b64 %d13, %d13, 0, %p0; setp.lt.u32 %p1, %r30, 60;
        @%p1 cp.async.{cache}.shared.global [ %r22 + 0 ], [ %d13 + 0 ], {size:#x}, %r24;
        @!%p1 cp.async.{cache}.shared.global [%r22], [%d20], {size};
        cp.async.commit_group; cp.async.wait_group 0; bar.sync 0; {moves} ret;
    """  # fmt: skip
    given = np.random.default_rng(0).integers(1, 256, (2, 64, size), np.uint8)
    out = np.zeros_like(given)
    made = kernel(text, shared=64 * size)
    machine = Machine(machine.mode, machine.seed, traffic=True)
    run(made, given, out, grid=2, block=64, machine=machine)
    given[:, 40:60], given[:, 60:] = 0, given[0, 0]
    np.testing.assert_array_equal(out, given[:, ::-1])
    counters = machine.counters[made]
    assert counters.of("global", "cp").bytes == 2 * 44 * size
    assert counters.of("shared", "cp").bytes == 2 * 64 * size


COPIES = """
    cp.async.ca.shared.global [%r21], [%d10], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%r21+256], [%d10], 4; cp.async.commit_group;
    cp.async.ca.shared.global [%r21+512], [%d10], 4; mov.u32 %r24, 2;
    setp.lt.u32 %p0, %r30, 32; xor.b32 %r22, %r30, 32; mad.lo.u32 %r23, %r22, 4, %r20;
"""
"""A group of copies, another, and a copy of no group; [%r23] is of a thread of the other warp."""
EARLY = {
    "nothing waited for": ("ld.shared.u32 %r0, [%r21]", "not waited for"),
    "the first, of 2": ("cp.async.wait_group 2; ld.shared.u32 %r0, [%r21]", "not waited for"),
    "the second, of 1": ("cp.async.wait_group 1; ld.shared.u8 %r0, [%r21+257]", "not waited for"),
    "no group": ("cp.async.wait_group 0; ld.shared.u32 %r0, [%r21+512]", "not waited for"),
    "one warp": ("@%p0 cp.async.wait_group 0; ld.shared.u32 %r0, [%r21]", "not waited for"),
    "another warp": ("bar.sync 0; ld.shared.u32 %r0, [%r23]", "not waited for"),
    "a store": ("st.shared.u32 [%r21], %r0", "not waited for"),
    "a copy": ("cp.async.ca.shared.global [%r21], [%d10], 4", "not waited for"),
    "no barrier": ("cp.async.wait_group 0; ld.shared.u32 %r0, [%r23]", "race: (reads|writes)"),
    "a reader": (
        "ld.shared.u32 %r0, [%r23+768]; cp.async.ca.shared.global [%r21+768], [%d10], 4",
        "race: writes what another warp read|not waited for",
    ),
    "a part": ("cp.async.ca.shared.global [%r21+768], [%d10], 4, %r24", "a part of its bytes"),
    "shared off": ("cp.async.ca.shared.global [%r21+770], [%d10], 4", "misaligned shared"),
    "global off": ("cp.async.ca.shared.global [%r21+768], [%d10+2], 4", "misaligned global"),
    "beyond shared": ("cp.async.ca.shared.global [%r21+772], [%d10], 4", "byte 1024 of 1024"),
    "beyond global": ("cp.async.ca.shared.global [%r21+768], [%d10+4], 4", "byte 256 of 256"),
}  # fmt: skip


@modes
@pytest.mark.parametrize("case", EARLY)
def test_copies_that_raise(case: str, machine: Machine) -> None:
    """Bytes before they are there, copies without an order, and accesses as of any other kind."""
    text, message = EARLY[case]
    made = kernel(THREAD + HELD + COPIES + text + "; ret;", shared=1024)
    with pytest.raises(Fault, match=message):
        run(made, words(64), block=64, machine=machine)


@modes
@pytest.mark.parametrize(
    "text",
    [
        "cp.async.wait_group 1; ld.shared.u32 %r0, [%r21]; ",
        "cp.async.wait_group 0; ld.shared.u32 %r0, [%r21+256]; ",
        "cp.async.commit_group; cp.async.wait_group 0; ld.shared.u32 %r0, [%r21+512]; ",
        "cp.async.wait_group 1; bar.sync 0; ld.shared.u32 %r0, [%r23]; ",
        "ld.shared.u32 %r0, [%r21+768]; ",
    ],
)
def test_copies_that_are_waited_for(text: str, machine: Machine) -> None:
    """The controls of those that raise."""
    given, out = np.arange(1, 65, dtype="u4"), words(64)
    made = kernel(THREAD + HELD + COPIES + text + "st.global.u32 [%d11], %r0; ret;", shared=1024)
    run(made, given, out, block=64, machine=machine)
    other = 32 if "%r23" in text else 0
    expected = np.full(64, 2**32 - 1) if "768" in text else given[np.arange(64) ^ other]
    np.testing.assert_array_equal(out, expected)


# ---- races ----


@modes
def test_races_between_blocks(machine: Machine) -> None:
    """A block may not read or write what another wrote, nor write what another read."""
    far = THREAD + "xor.b32 %r0, %r32, 64; mad.wide.u32 %d9, %r0, 4, %d20; "
    own, other = "st.global.u32 [%d10], %r32; ", "st.global.u32 [%d9], %r32; "
    read = "ld.global.u32 %r1, [%d9]; "
    for text in (own + read, read + own, own + other):
        with pytest.raises(Fault, match=r"race: .* of another block"):
            run(kernel(far + text + "ret;"), words(128), grid=2, block=64, machine=machine)
    reads = kernel(far + "ld.global.u32 %r1, [%d9]; ld.global.u32 %r1, [%d10]; ret;")
    run(reads, words(128), grid=2, block=64, machine=machine)
    quiet = Machine(machine.mode, machine.seed, races=False)
    run(kernel(far + own + read + "ret;"), words(128), grid=2, block=64, machine=quiet)


@modes
def test_launches_have_an_order(machine: Machine) -> None:
    """What one wrote another may read."""
    memory, a, out = Memory(), words(128), words(128)
    write = kernel(THREAD + "st.global.u32 [%d10], %r32; ret;")
    far = "xor.b32 %r0, %r32, 64; mad.wide.u32 %d9, %r0, 4, %d20; ld.global.u32 %r1, [%d9]; "
    read = kernel(THREAD + far + "st.global.u32 [%d11], %r1; ret;")
    run(write, a, grid=2, block=64, machine=machine, memory=memory)
    run(read, a, out, grid=2, block=64, machine=machine, memory=memory)
    np.testing.assert_array_equal(out, np.arange(128) ^ 64)


@modes
def test_races_between_warps_in_global_memory(machine: Machine) -> None:
    """A barrier orders them within a block, and not between blocks."""
    text = (
        THREAD
        + """
        st.global.u32 [%d10], %r32; bar.sync 0;
        xor.b32 %r0, %r32, {by}; mad.wide.u32 %d9, %r0, 4, %d20; ld.global.u32 %r1, [%d9];
        bar.sync 0; st.global.u32 [%d10], %r1; ret;
    """
    )
    made, out = kernel(text.format(by=32)), words(128)
    run(made, out, grid=2, block=64, machine=machine)
    np.testing.assert_array_equal(out, np.arange(128) ^ 32)
    for index in made.where("bar"):
        with pytest.raises(Fault, match="since the last barrier"):
            run(made.without(index), words(128), grid=2, block=64, machine=machine)
    with pytest.raises(Fault, match="of another block"):
        run(kernel(text.format(by=64)), words(128), grid=2, block=64, machine=machine)


@modes
def test_many_readers_then_a_writer(machine: Machine) -> None:
    """All warps that have read count, not the last alone; the byte alone, not its neighbour."""
    text = (
        THREAD
        + HELD
        + """
        ld.shared.u32 %r0, [%r20]; setp.eq.u32 %p0, %r30, {thread};
        @%p0 st.shared.u8 [%r20+{byte}], %r0; ret;
    """
    )
    for thread in (0, 32, 64):
        with pytest.raises(Fault, match=r"race: (writes what another warp read|reads)"):
            run(kernel(text.format(thread=thread, byte=3), shared=16), block=96, machine=machine)
        run(kernel(text.format(thread=thread, byte=4), shared=16), block=96, machine=machine)


def test_threads_of_a_warp_that_write_one_byte() -> None:
    """The same value is no race; different ones are."""
    text = THREAD + "and.b32 %r0, %r30, {}; st.global.u32 [%d20], %r0; ret;"
    run(kernel(text.format(0)), words(32))
    with pytest.raises(Fault, match="different values"):
        run(kernel(text.format(1)), words(32))


@modes
def test_warps_that_write_one_value(machine: Machine) -> None:
    """To shared memory, as where a tile is smaller than a block, is no race; others read later."""
    text = THREAD + HELD + (
        "and.b32 %r0, %r30, 31; mad.lo.u32 %r1, %r0, 4, %r20; st.shared.u32 [%r1], VALUE; "
        "bar.sync 0; ld.shared.u32 %r2, [%r1]; st.global.u32 [%d10], %r2; ret;"
    )  # fmt: skip
    out = words(64)
    made = kernel(text.replace("VALUE", "%r0"), shared=128)
    run(made, out, block=64, machine=machine)
    np.testing.assert_array_equal(out, np.arange(64) % 32)
    with pytest.raises(Fault, match=r"race: (reads|writes)"):
        run(made.without(made.where("bar")[0]), out, block=64, machine=machine)
    with pytest.raises(Fault, match=r"race: (writes|two threads)"):
        run(kernel(text.replace("VALUE", "%r30"), shared=128), out, block=64, machine=machine)


@modes
@pytest.mark.parametrize("kind", ["f64", "u32", "s32", "u64"])
def test_atomic_sums(kind: str, machine: Machine) -> None:
    """Of whole numbers, from all blocks, are no race and exact; read in the launch they are."""
    register = {"f64": "%g0", "u32": "%r0", "s32": "%r0", "u64": "%d0"}[kind]
    to = (
        "cvt.rn.f64.u32 %g0, %r32; "
        if kind == "f64"
        else "cvt.u64.u32 %d0, %r32; mov.u32 %r0, %r32; "
    )
    total = np.zeros(1, {"f64": "f8", "u32": "u4", "s32": "i4", "u64": "u8"}[kind])
    base = THREAD + to + "setp.ne.u32 %p0, %r30, 5; "
    add = f"@%p0 red.global.add.{kind} [%d20], {register}; "
    run(kernel(base + add + "ret;"), total, grid=3, block=64, machine=machine)
    assert total[0] == sum(range(192)) - 5 - 69 - 133
    for more in (
        f"ld.global.{kind} {register}, [%d20]; ",
        f"st.global.{kind} [%d20], {register}; ",
    ):
        with pytest.raises(Fault, match="race"):
            run(kernel(base + add + more + "ret;"), total, grid=3, block=64, machine=machine)


def test_an_atomic_returns_what_was_there() -> None:
    """Each thread another number; in some order."""
    text = THREAD + "atom.global.add.u32 %r0, [%d20], 2; st.global.u32 [%d11], %r0; ret;"
    total, out = words(1), words(32)
    run(kernel(text), total, out)
    assert total[0] == 64
    assert sorted(out) == list(range(0, 64, 2))


@pytest.mark.parametrize(
    ("number", "message"), [("0d3FE0000000000000", "not whole"), ("0d4350000000000000", "beyond")]
)
def test_atomic_sums_that_depend_on_the_order(number: str, message: str) -> None:
    """1/2, and 2**54."""
    with pytest.raises(Fault, match=message):
        run(kernel(THREAD + f"red.global.add.f64 [%d20], {number}; ret;"), np.zeros(1))


# ---- garbage, counters ----


def test_garbage() -> None:
    """What was not written is NaN and -1, not 0."""
    text = (
        THREAD
        + HELD
        + """
        ld.shared.u32 %r1, [%r21]; st.global.u32 [%d10], %r1; st.global.f32 [%d11], %f3;
        selp.b32 %r2, 1, 0, %p7; st.global.u32 [%d12], %r2; ret;
    """
    )
    given = words(32), np.zeros(32, np.float32), words(32)
    run(kernel(text, shared=128), *given)
    assert (given[0] == 2**32 - 1).all()
    assert np.isnan(given[1]).all()
    assert (given[2] == 1).all()


def test_counters() -> None:
    """Warps that issue, instructions that act, bytes, sectors, passes through the banks."""
    text = (
        THREAD
        + HELD
        + """
        setp.lt.u32 %p0, %r30, 40; @%p0 ld.global.u32 %r0, [%d10];
        setp.gt.u32 %p1, %r30, 99; @%p1 st.global.u32 [%d10], %r0;
        mad.lo.u32 %r2, %r30, 8, %r20; st.shared.u32 [%r2], %r0; ret;
    """
    )
    made = kernel(text, shared=1024)
    for mode in ("lockstep", "warps"):
        machine = run(made, words(128), grid=2, block=64, machine=Machine(mode, traffic=True))
        counters = machine.counters[made]
        assert counters.launches == 1
        assert counters.issued == [4] * len(made.code)
        assert [text for _, text in counters.unreached] == ["@%p1 st.global.u32 [%d10], %r0"]
        assert counters.coverage == pytest.approx(1 - 1 / len(made.code))
        read = counters.of("global", "ld")
        assert (read.requests, read.bytes, read.units, read.least) == (4, 2 * 40 * 4, 10, 10)
        stored = counters.of("shared")
        assert (stored.requests, stored.units, stored.least) == (4, 8, 4)
        assert counters.of("global", "st").requests == 0
        assert counters.by_opcode()["st.shared.u32"] == 4


@pytest.mark.parametrize(
    ("addresses", "size", "expected"),
    [
        (np.arange(32) * 4, 4, (4, 4)),
        (np.arange(32) * 4 + 16, 4, (5, 4)),
        (np.arange(32) * 16, 16, (16, 16)),
        (np.arange(32) * 64, 4, (32, 4)),
        (np.zeros(32, int), 4, (1, 1)),
        (np.arange(32) * 2, 2, (2, 2)),
        (np.arange(32) * 32 + 24, 8, (32, 8)),
    ],
)
def test_sectors(addresses: np.ndarray, size: int, expected: tuple[int, int]) -> None:
    """Aligned, off by half a sector, wide, strided, one number, halves."""
    assert sectors(addresses, size, np.arange(32)) == expected
    twice = np.concatenate([addresses, addresses])
    assert sectors(twice, size, np.arange(64)) == tuple(2 * n for n in expected)


@pytest.mark.parametrize(
    ("addresses", "size", "expected"),
    [
        (np.arange(32) * 4, 4, (1, 1)),
        (np.arange(32) * 8, 4, (2, 1)),
        (np.arange(32) * 128, 4, (32, 1)),
        (np.zeros(32, int), 4, (1, 1)),
        (np.arange(32) * 8, 8, (2, 2)),
        (np.arange(32) * 16, 16, (4, 4)),
        (np.arange(32) * 32, 16, (8, 4)),
        (np.arange(32) * 132, 4, (1, 1)),
        (np.arange(32), 1, (1, 1)),
    ],
)
def test_passes(addresses: np.ndarray, size: int, expected: tuple[int, int]) -> None:
    """Free of conflicts, of two, of all; one word for all; halves and quarters of a warp."""
    assert passes(addresses, size, np.arange(32)) == expected
    twice = np.concatenate([addresses, addresses])
    assert passes(twice, size, np.arange(64)) == tuple(2 * n for n in expected)
