"""`lnm bench` on tiny sizes: rows, files and tuning; no time is asserted."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.bench import suite, table
from lnm_codegen.bench.subjects import (
    THETA,
    Subject,
    flexible_cubic,
    hand_loop,
    lif_loop,
    lnm_loop,
    peers,
)
from lnm_codegen.cli import run as command
from lnm_codegen.errors import ToolError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.load import cache, triton
from tests.refusals import assert_line, refused

pytestmark = pytest.mark.needs_cc


def case(**options):
    given = {"neuron": lnm.get("lnm", degree=2), "label": "lnm degree 2", "shape": (3, 2, 4, 5)}
    given |= {"rounds": 1, "blocks": 1, "compile": False, "peers": False}
    return suite.Case(**given | options)


@pytest.mark.slow
def test_rows(tmp_path, monkeypatch):
    """A row for kernels, layer, eager module, hand loop, floors; CSV, figure, saved speed."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "cache"))
    rows = suite.measure(case())
    assert [r.what for r in rows] == [
        "lnm c, kernels alone", "lnm c", "lnm eager PyTorch", "lnm hand loop",
        "floor by copies", "floor by streams",
    ]  # fmt: skip
    assert rows[1].layer == 1
    copies, streams = rows[-2:]
    assert copies.floor == streams.streams == streams.steady_streams == 1
    for row in rows:
        assert row.steady > 0
        assert row.streams == pytest.approx(row.ns / streams.ns)
        assert row.steady_streams == pytest.approx(row.steady / streams.steady)
    assert all(len(cells) == len(table.HEADER) for cells in table.table(rows))
    assert all(r.low <= r.ns <= r.high for r in rows)
    assert rows[1].peak_bytes >= 8  # the output and the gradient of x
    table.write_csv(rows, tmp_path / "bench.csv")
    table.write_figure(rows, tmp_path / "bench.png")
    with (tmp_path / "bench.csv").open(newline="") as file:
        assert [r["what"] for r in csv.DictReader(file)] == [r.what for r in rows]
    assert (tmp_path / "bench.png").stat().st_size > 1000
    explained = NeuronLayer(lnm.get("lnm", degree=2), backend="c").explain(torch.empty(3, 2, 20))
    assert explained.floor_fraction == pytest.approx(1 / rows[0].floor, abs=1e-3)
    assert "of the copy bandwidth" in str(explained)


def test_the_floor_of_a_gpu_is_of_blocks(monkeypatch):
    """The ratio was that of the round-robin, which contains the time of a launch."""
    monkeypatch.setattr(suite, "device_name", str)
    times = {"lnm": 3.0, table.COPIES: 2.0, table.STREAMS: 2.0}
    robin = {n: suite.Timing(0.0, 0.0, 10 + t, 10 + t, 10 + t) for n, t in times.items()}
    steady = {n: suite.Timing(0.0, 0.0, t, t, t) for n, t in times.items()}
    rows = [suite._row(case(device=d), "lnm", robin, steady, 1.0) for d in ("cpu", "cuda")]
    assert [row.floor for row in rows] == [13 / 12, 3 / 2]


@pytest.mark.slow
def test_loops_mean_what_the_layers_mean():
    """The hand-written loops are the same neurons, spikes and gradients."""
    x = torch.randn(5, 2, 3, 4)
    theta = (0.05, 0.6, -0.1, 0.15)
    layer = NeuronLayer(lnm.get("lnm", degree=3, theta=theta), backend="c")
    learned = torch.tensor(theta, requires_grad=True)
    for ours, loop in (
        (layer, lambda s: lnm_loop(s, learned)),
        (NeuronLayer(lnm.get("lif", tau=2.0), backend="c"), lif_loop),
    ):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out = ours(a)
        expected = loop(b)
        assert torch.equal(out, expected)
        out.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(layer.theta.grad, learned.grad)


def test_a_loop_is_that_of_the_neuron():
    """Or there is none: a time of another neuron is no comparison."""
    for family, arguments, has_loop in (
        ("lnm", {"degree": 2, "per": "channel", "decay": 0.3}, True),
        ("lnm", {"states": 2}, False),
        ("lnm", {"form": "B"}, False),
        ("lnm", {"basis": "chebyshev"}, False),
        ("lnm", {"v_reset": None}, False),
        ("lnm", {"v_min": -1.0}, False),
        ("lif", {}, True),
        ("lif", {"tau": 3.0}, False),
        ("lif", {"learn_tau": True}, False),
        ("lif", {"surrogate": lnm.surrogate.atan(alpha=3.0)}, False),
        ("plif", {}, False),
    ):
        assert (hand_loop(lnm.get(family, **arguments), "cpu") is not None) == has_loop


@pytest.mark.peers
def test_peers_fire_as_ours():
    """Spikes of SpikingJelly's LIF; snnTorch's has other dynamics and only has to run.

    SpikingJelly accepts the core of FlexSN; on a CPU it is a loop.
    """
    x = torch.randn(6, 2, 3, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    found = {p.name: p.run(x) for p in peers("cpu")}
    assert set(found) == {"SpikingJelly LIFNode", "snnTorch Leaky loop"}
    assert torch.equal(found["SpikingJelly LIFNode"], lif_loop(x))
    assert found["snnTorch Leaky loop"].shape == x.shape
    core = flexible_cubic("cpu")
    theta = torch.tensor(THETA, requires_grad=True)
    out, expected = core.run(x), lnm_loop(x, theta)
    out.sum().backward()
    expected.sum().backward()
    assert torch.equal(out, expected)
    torch.testing.assert_close(torch.stack([p.grad for p in core.parameters]), theta.grad)


@pytest.mark.slow
def test_a_subject_that_fails_is_left_out(monkeypatch, capsys):
    """Not one of ours; and before its memory is measured, each has no gradients."""
    broken, dropped = Subject("broken", lambda x: 1 / 0), []

    def peak(workload, device, prepare):
        prepare()
        dropped.append(all(t.grad is None for t in (*parameters, *inputs)))
        return 1

    def recorded(subject, x, grad):
        inputs.append(x)
        parameters.extend(subject.parameters)
        return workload(subject, x, grad)

    inputs, parameters, workload = [], [], Subject.workload
    monkeypatch.setattr(Subject, "workload", recorded)
    monkeypatch.setattr(suite, "peers", lambda *_: iter([broken]))
    monkeypatch.setattr(suite, "peak_bytes", peak)
    rows = suite.measure(case(loops=False, peers=True))
    assert "broken" not in {r.what for r in rows}
    assert capsys.readouterr().err == "left out: broken: ZeroDivisionError: division by zero\n"
    assert dropped == [True]
    monkeypatch.setattr(suite, "layers", lambda *_: iter([Subject("ours", broken.run, (), "c")]))
    with pytest.raises(ZeroDivisionError):
        suite.measure(case(loops=False))


def test_the_command_refuses_before_it_measures(tmp_path, monkeypatch, capsys):
    """A neuron of two inputs, a folder that cannot be written, and options of the other verb."""
    (tmp_path / "two.py").write_text(
        "import lnm_codegen as lnm\nv, x, y = lnm.state('v'), lnm.input('x'), lnm.input('y')\n"
        "def two():\n    return lnm.Neuron(charge={v: v / 2 + x - y}, fire=v - 1, name='two')\n"
    )
    monkeypatch.setattr(suite, "measure_all", None)
    for option in ("--no-loops", "--no-starts"):
        assert command(["bench-network", "conv", option]) == 2
        line, remedy = capsys.readouterr().err, "See lnm bench-network --help."
        assert_line(line, f"lnm bench-network: No such option: {option}", remedy)
    assert command(["bench", f"{tmp_path}/two.py:two"]) == 2
    assert_line(capsys.readouterr().err, "bench: two has 2 inputs and 1 outputs", "one of each")
    assert command(["bench", "lif", "--out", f"{tmp_path}/two.py/out"]) == 2
    assert_line(capsys.readouterr().err, "bench: cannot write", "Not a directory")
    assert command(["bench", "lnm", "--neurons", "2"]) == 2
    assert_line(capsys.readouterr().err, "bench: neurons is '2'", "N,C")
    found = []  # a cold start gets its neuron by name, with arguments as text
    monkeypatch.setattr(suite, "measure_all", lambda cases: found.extend(cases) or [])
    for surrogate, is_timed in (("atan(alpha=3)", False), ("none", True)):
        found.clear()
        assert command(["bench", "lif", "--set", f"surrogate={surrogate}"]) == 0
        assert [one.start is not None for one in found] == [is_timed] * 3
    monkeypatch.setattr(suite, "layers", lambda *_: iter(()))
    with refused(ToolError, "bench", "no kernel of lnm", remedy="lnm check"):
        suite.measure(case(loops=False))


def test_the_name_in_a_figure_is_no_formula(tmp_path, monkeypatch):
    """It may be a path. An earlier figure is replaced once the new one is complete."""
    numbers = dict.fromkeys(
        ("forward", "backward", "ns", "low", "high", "floor", "streams", "steady",
         "steady_streams", "layer"), 1.0
    )  # fmt: skip
    row = table.Row("$\\a$.toml", 4, 1, "float32", "cpu", 1, "lif c", **numbers)
    table.write_figure([row], tmp_path / "bench.png")
    whole = (tmp_path / "bench.png").read_bytes()
    assert len(whole) > 1000

    def stopped(_, file, **options):
        if isinstance(file, Path):
            file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", stopped)
    with pytest.raises(KeyboardInterrupt):
        table.write_figure([row], tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Inductor's own imports
def test_peers_under_compile_fire_as_without():
    """Call after call, though a library's node keeps its state."""
    x = torch.randn(2, 2, 3, 4) + 0.5
    found = {p.name: [p.run(x), p.run(x)] for p in peers("cpu", compiles=True)}
    for name in ("SpikingJelly LIFNode", "snnTorch Leaky loop"):
        for out in found[f"{name}, torch.compile"]:
            assert torch.equal(out, found[name][0])


@pytest.mark.slow
def test_command(tmp_path):
    """`lnm bench` writes its files."""
    few = "--steps 2 --rounds 1 --no-loops --no-peers --no-starts --neurons 2,3,4 --out"
    whole = [sys.executable, "-m", "lnm_codegen.cli", "bench", "lnm", *few.split(), str(tmp_path)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lnm c, kernels alone" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench.csv", "bench.png"]


def test_tuning(tmp_path, monkeypatch):
    """The fastest candidate is saved for the GPU; defaults apply where nothing can be timed."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path))
    cpu, gpu = torch.device("cpu"), torch.device("cuda")

    def run(block: int, warps: int) -> None:
        raise AssertionError("timed by a stub alone")

    monkeypatch.setattr(triton.torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(triton.torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(triton, "fastest", lambda run: None)
    assert triton.launch_sizes("k", 1 << 30, run, gpu) is None
    assert not (tmp_path / cache.MEASURED).exists()
    monkeypatch.setattr(triton, "fastest", lambda run: (1024, 4))
    assert triton.launch_sizes("k", 1 << 30, run, cpu) is None
    assert triton.launch_sizes("k", 1 << 10, run, gpu) is None
    assert triton.launch_sizes("k", 1 << 30, run, gpu) == (1024, 4)
    monkeypatch.setattr(triton, "fastest", run)
    assert triton.launch_sizes("k", 1 << 30, run, gpu) == (1024, 4)  # from the cache
    monkeypatch.setenv("LNM_TUNE", "0")
    assert triton.launch_sizes("k", 1 << 30, run, gpu) is None
    monkeypatch.delenv("LNM_TUNE")
    (tmp_path / cache.MEASURED).write_text("{ broken")
    monkeypatch.setattr(triton, "fastest", lambda run: (256, 2))
    assert triton.launch_sizes("k", 1 << 30, run, gpu) == (256, 2)
