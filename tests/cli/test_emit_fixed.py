"""`lnm emit` in fixed point: its files, its imports, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.fixed.quantize import node_names
from tests.refusals import refused

THETA = "theta=0.02,0.85,0.11,-0.06"


def call(*arguments: object) -> int:
    return run([str(a) for a in arguments])


def files_in(folder: Path) -> dict[str, str]:
    paths = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def test_a_circuit(tmp_path, capsys):
    """Every option of a circuit is that of `lnm.Rtl`; the paths are printed."""
    status = call(
        "emit", "lnm", "--degree", 3, "--set", THETA, "--backend", "verilog", "--out", tmp_path,
        "--format", "14.10", "--rounding", "convergent", "--neurons", 12, "--coefficients", "port",
        "--multiplier", "ecp5", "--forms", "comb, array", "--shift-add", 0, "--name", "cubic",
        "--vectors", 100,
    )  # fmt: skip
    assert status == 0
    source = lnm.emit(
        lnm.get("lnm", degree=3, theta=(0.02, 0.85, 0.11, -0.06)),
        "verilog",
        name="cubic",
        spec=lnm.Fixed(14, 10, "convergent"),
        rtl=lnm.Rtl(("comb", "array"), 12, "port", "ecp5", 0, 100),
    )
    assert files_in(tmp_path / "verilog" / "cubic") == source.files
    printed = capsys.readouterr().out.split()
    assert sorted(printed) == sorted(f"{tmp_path}/verilog/cubic/{p}" for p in source.files)


def test_the_integer_model_beside_it(tmp_path):
    """`c` with a format is the integer model; a degree names the folder."""
    common = ("emit", "lnm", "--degree", "1..2", "--out", tmp_path, "--format", "Q4.12")
    assert call(*common, "--backend", "c,verilog", "--forms", "comb") == 0
    for d in (1, 2):
        name, neuron = f"lnm_degree{d}", lnm.get("lnm", degree=d)
        for backend, options in (("c", {}), ("verilog", {"rtl": lnm.Rtl(("comb",))})):
            source = lnm.emit(neuron, backend, name=name, spec=lnm.Fixed(16, 12), **options)
            assert files_in(tmp_path / backend / name) == source.files


def test_a_spec_from_a_file(tmp_path):
    """A file as `lnm quantize` writes it."""
    spec = tmp_path / "spec.toml"
    spec.write_text('default = "16.12"\nrounding = "truncate"\n[nodes]\nh = "18.12"\n')
    out = tmp_path / "out"
    common = ("emit", "lif", "--backend", "verilog", "--forms", "core", "--out", out)
    assert call(*common, "--format", spec) == 0
    formats = lnm.FixedSpec(lnm.Fixed(16, 12, "truncate"), {"h": lnm.Fixed(18, 12, "truncate")})
    source = lnm.emit(lnm.get("lif"), "verilog", spec=formats, rtl=lnm.Rtl(("core",)))
    assert files_in(out / "verilog" / "lif") == source.files


def test_a_format_of_an_exact_node_is_refused(tmp_path, capsys):
    """It was ignored, and README.md and manifest.json then stated it."""
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    spec.write_text('default = "16.12"\n[nodes]\nz = "6.2"\nspike = "4.0"\n')
    assert call("emit", "lif", "--backend", "verilog", "--format", spec, "--out", out) == 2
    assert capsys.readouterr().err == (
        "error: lif: 'z' is exact and has no format. Accepted: v, x, v_threshold, p0, inv_tau, h."
        " Omit z.\n"
    )
    assert not out.exists()


@pytest.mark.parametrize("family", ["lif", "refractory_lif"])
def test_the_file_of_a_search_is_accepted(family, tmp_path):
    """That of a neuron whose threshold depends on a condition named the exact `z`."""
    assert call("quantize", family, "--mismatch", "0.05", "--out", tmp_path) == 0
    spec = load_spec(tmp_path / f"{family}.toml")
    program = lnm.quantize(lnm.get(family), spec)
    assert program.spec == spec
    assert sorted(name for name, _ in spec.nodes) == sorted(node_names(lower(lnm.get(family))))


def test_the_default_format(tmp_path):
    """Q4.12 for a circuit, with the rounding that is asked for; other backends stay in floats."""
    common = ("emit", "lif", "--backend", "verilog,c", "--forms", "comb", "--out", tmp_path)
    assert call(*common, "--rounding", "truncate") == 0
    spec = lnm.Fixed(16, 12, "truncate")
    source = lnm.emit(lnm.get("lif"), "verilog", spec=spec, rtl=lnm.Rtl(("comb",)))
    assert files_in(tmp_path / "verilog" / "lif") == source.files
    assert files_in(tmp_path / "c" / "lif") == lnm.emit(lnm.get("lif"), "c").files


REPORT = '{\n  "report": 1\n}\n'
"""Begin of a report.json of `lnm verify`."""


def test_a_circuit_replaces_an_earlier_one(tmp_path):
    """Files of the earlier one go, with its report; those of the user stay."""
    folder = tmp_path / "verilog" / "lif"
    common = ("emit", "lif", "--backend", "verilog", "--out", tmp_path, "--vectors", 64)
    assert call(*common, "--neurons", 4) == 0
    own = {"notes.txt": "mine\n", "rtl/own.v": "module own; endmodule\n", "syn/own/a.tcl": "\n"}
    for name, text in (own | {"report.json": REPORT, "formal/tmp": ""}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    assert call(*common, "--forms", "comb", "--set", "tau=5", "--format", "8.6") == 0
    rtl = lnm.Rtl(("comb",), vectors=64)
    source = lnm.emit(lnm.get("lif", tau=5.0), "verilog", spec=lnm.Fixed(8, 6), rtl=rtl)
    assert files_in(folder) == source.files | own | {"formal/tmp": ""}
    assert json.loads(source.files["manifest.json"])["emitted"] == sorted(source.files)
    (folder / "report.json").write_text(REPORT)
    assert call(*common[:1], "lif", "--backend", "c", "--out", tmp_path / "verilog") == 0
    assert (folder / "report.json").exists()  # another backend writes beside it
    source.write(folder)
    assert not (folder / "report.json").exists()


@pytest.mark.parametrize(
    "files",
    [["../x.v", "{x}", "link/x.v", "none", 3, "sim", "rtl/../rtl/lif_comb.v", "{own}"], 5, None],
)
def test_a_manifest_names_no_file_outside(tmp_path, files):
    """A manifest that someone changed removes nothing outside its folder."""
    folder, outside = tmp_path / "lif", tmp_path / "x.v"
    source = lnm.emit(lnm.get("lif"), "verilog", spec=lnm.Fixed(16, 12), rtl=lnm.Rtl(("comb",)))
    source.write(folder)
    outside.write_text("")
    (folder / "link").symlink_to(tmp_path)
    (folder / "sim").mkdir()
    places = {"{x}": str(outside), "{own}": str(folder / "rtl/lif_comb.v")}
    listed = [places.get(f, f) for f in files] if isinstance(files, list) else files
    (folder / "manifest.json").write_text(json.dumps({"manifest": 1, "emitted": listed}))
    source.write(folder)
    assert outside.exists()
    assert (folder / "sim").exists()
    assert all((folder / name).is_file() for name in source.files)
    assert (folder / "manifest.json").read_text() == source.files["manifest.json"]


@pytest.mark.parametrize("name", ["thesis.txt", "rtl/lif_core.v", "report.json"])
def test_a_listed_file_of_another_origin_is_not_removed(tmp_path, name):
    """It once was, without a word, also where it had replaced a file of the earlier circuit."""
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    manifest = json.dumps({"manifest": 1, "emitted": [name]})
    (tmp_path / "manifest.json").write_text(manifest)
    source = lnm.emit(lnm.get("lif"), "verilog", spec=lnm.Fixed(16, 12), rtl=lnm.Rtl(("comb",)))
    problem = f"would remove {mine}, which lnm_codegen did not write"
    with refused(lnm.ModelError, "emit", problem, remedy="Remove it, or give another folder."):
        source.write(tmp_path)
    assert mine.read_text() == "mine"
    assert (tmp_path / "manifest.json").read_text() == manifest


def test_a_manifest_of_another_program_is_not_overwritten(tmp_path):
    """Nor is anything removed that it lists, or that stands beside it."""
    (tmp_path / "manifest.json").write_text('{"name": "an app", "emitted": ["mine.txt"]}')
    for name in ("report.json", "mine.txt"):
        (tmp_path / name).write_text("")
    source = lnm.emit(lnm.get("lif"), "verilog", spec=lnm.Fixed(16, 12))
    with refused(lnm.ModelError, "emit", f"would overwrite {tmp_path}/manifest.json, which"):
        source.write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


REFUSED = [
    ("--format 16.12", "'torch'", "c, verilog", "--backend verilog"),
    ("--backend verilog --format 0.3", "--format '0.3': width is 0", "from 2 to 32"),
    ("--backend verilog --format 33.3", "--format '33.3': width is 33", "from 2 to 32"),
    ("--backend verilog --format -16.12", "'-16.12'", "such as 16.12, or Q4.12"),
    ("--backend verilog --format 16", "'16'", "such as 16.12, or Q4.12"),
    ("--backend verilog --format 16.12 --rounding up", "'up'", "'half_up', 'truncate'"),
    ("--backend c --rounding truncate", "--rounding", "--format 16.12"),
    ("--backend c --format 16.12 --dtype float64", "--dtype", "--format"),
    ("--backend verilog --dtype float64", "--dtype", "--format"),
    ("--backend c --format 16.12 --neurons 3", "--neurons", "--backend verilog"),
    ("--shift-add 3", "--shift-add", "--backend verilog"),
    ("--backend verilog --neurons 0", "emit: --neurons is 0", "65536"),
    ("--backend verilog --forms comb,fast", "emit: --forms is 'comb,fast'", "seq", "array"),
    ("--backend verilog --forms=", "emit: --forms is ''", "some of comb, core, seq, array"),
    ("--backend verilog --shift-add 33", "emit: --shift-add is 33", "from 0 to 32"),
    ("--backend verilog --coefficients rom", "emit: --coefficients is 'rom'", "memory"),
    ("--backend verilog --multiplier dsp", "emit: --multiplier is 'dsp'", "ecp5"),
    (
        "--backend verilog --multiplier ecp5 --shift-add 0 --format 20.16",
        "lif: a factor in h has 20 bits",
        "18",
        "multiplier='generic' (--multiplier generic)",
    ),
    (
        "--backend verilog --format 8.7 --set v_threshold=1.5",
        "lif: parameter 'v_threshold' is 1.5, which does not fit Q1.7",
        "-1 to 0.992188",
    ),
    (
        "--backend verilog --format 8.7 --set v_reset=-3.0",
        "lif.reset, v_next: the constant -3 does not fit Q1.7",
        "-1 to 0.992188",
    ),
    ("--backend verilog --format no.toml", "no.toml", "no such file"),
    ("--backend verilog --format no.toml --rounding truncate", "no.toml", "--rounding"),
]


@pytest.mark.parametrize(("options", "parts"), [(options, parts) for options, *parts in REFUSED])
def test_refused(options, parts, tmp_path, capsys):
    """One line, status 2, and no file."""
    status = call("emit", "lif", "--out", tmp_path / "out", *options.split())
    line = capsys.readouterr().err
    assert (status, line.count("\n"), line[:7]) == (2, 1, "error: ")
    assert all(part in line for part in parts), line
    assert not (tmp_path / "out").exists()


def test_exp_in_the_step(tmp_path, capsys):
    """The family is legal; it has no circuit."""
    file = tmp_path / "eif.py"
    file.write_text(
        "import lnm_codegen as lnm\n\n\n@lnm.family\ndef eif():\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    return lnm.Neuron(charge={v: v / 2 + lnm.exp(v) + x}, fire=v - 1)\n"
    )
    out = tmp_path / "out"
    status = call("emit", f"{file}:eif", "--backend", "verilog", "--format", "16.12", "--out", out)
    assert status == 2
    line = capsys.readouterr().err
    assert line.startswith("error: eif.charge, h: 'exp' has no fixed-point form. Use a polynomial")
    assert not out.exists()


def test_a_circuit_needs_no_pytorch(tmp_path):
    """From the shell, one neuron in every form."""
    code = (
        "import sys; from lnm_codegen.cli import run; status = run(sys.argv[1:]);"
        " print('torch' in sys.modules); sys.exit(status)"
    )
    command = ("emit", "lnm", "--degree", "3", "--set", THETA, "--backend", "verilog")
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--format", "16.12", "--out", str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
