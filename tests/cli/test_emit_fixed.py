"""`lnm emit` in fixed point: its files, its imports, and one line for every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.base import Source
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.fixed.quantize import node_names
from tests.cli.conftest import Call, files_below
from tests.refusals import refused

THETA = "theta=0.02,0.85,0.11,-0.06"


def texts_in(folder: Path) -> dict[str, str]:
    return {name: data.decode() for name, data in files_below(folder).items() if data}


def test_a_circuit(tmp_path: Path, call: Call) -> None:
    """Every option of a circuit is that of `lnm.Rtl`; the paths are printed."""
    status, printed, _ = call(
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
    assert texts_in(tmp_path / "verilog" / "cubic") == source.files
    assert sorted(printed.split()) == sorted(f"{tmp_path}/verilog/cubic/{p}" for p in source.files)


COMB = {"rtl": lnm.Rtl(("comb",), vectors=9)}
SHORT = lnm.Fixed(16, 12, "truncate")
FROM_FILE = lnm.FixedSpec(SHORT, {"h": lnm.Fixed(18, 12, "truncate")})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "--format Q4.12",
            {"c": {"spec": lnm.Fixed(16, 12)}, "verilog": {"spec": lnm.Fixed(16, 12), **COMB}},
        ),
        ("--format spec.toml", {"c": {"spec": FROM_FILE}, "verilog": {"spec": FROM_FILE, **COMB}}),
        ("--rounding truncate", {"c": {}, "verilog": {"spec": SHORT, **COMB}}),
    ],
)
def test_formats(
    words: str, expected: dict, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`c` with a format is the integer model; a file is one of `lnm quantize`.

    The default is Q4.12 for a circuit, with the rounding that is asked for.
    """
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text('default = "16.12"\nrounding = "truncate"\n[nodes]\nh = "18.12"\n')
    common = "emit lif --backend verilog,c --forms comb --vectors 9 --out out"
    assert call(*common.split(), *words.split())[0] == 0
    for backend, options in expected.items():
        source = lnm.emit(lnm.get("lif"), backend, **options)
        assert texts_in(Path("out") / backend / "lif") == source.files


@pytest.mark.parametrize("family", ["lif", pytest.param("refractory_lif", marks=pytest.mark.slow)])
def test_the_file_of_a_search_is_accepted(family: str, tmp_path: Path, call: Call) -> None:
    """That of a neuron whose threshold depends on a condition named the exact `z`."""
    assert call("quantize", family, "--mismatch", "0.05", "--out", tmp_path)[0] == 0
    spec = load_spec(tmp_path / f"{family}.toml")
    program = lnm.quantize(lnm.get(family), spec)
    assert program.spec == spec
    assert sorted(name for name, _ in spec.nodes) == sorted(node_names(lower(lnm.get(family))))


REPORT = '{\n  "report": 1\n}\n'
"""Begin of a report.json of `lnm verify`."""


def test_a_circuit_replaces_an_earlier_one(tmp_path: Path, call: Call) -> None:
    """Files of the earlier one go, with its report; those of the user stay."""
    folder = tmp_path / "verilog" / "lif"
    common = ("emit", "lif", "--backend", "verilog", "--out", tmp_path, "--vectors", 9)
    assert call(*common, "--neurons", 4)[0] == 0
    own = {"notes.txt": "mine\n", "rtl/own.v": "module own; endmodule\n", "syn/own/a.tcl": "\n"}
    for name, text in (own | {"report.json": REPORT, "formal/tmp": ""}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    assert call(*common, "--forms", "comb", "--set", "tau=5", "--format", "8.6")[0] == 0
    source = lnm.emit(lnm.get("lif", tau=5.0), "verilog", spec=lnm.Fixed(8, 6), **COMB)
    assert texts_in(folder) == source.files | own
    assert (folder / "formal/tmp").exists()
    assert json.loads(source.files["manifest.json"])["emitted"] == sorted(source.files)
    (folder / "report.json").write_text(REPORT)
    assert call("emit", "lif", "--backend", "c", "--out", tmp_path / "verilog")[0] == 0
    assert (folder / "report.json").exists()  # another backend writes beside it
    source.write(folder)
    assert not (folder / "report.json").exists()


@pytest.fixture(scope="module")
def comb() -> Source:
    return lnm.emit(lnm.get("lif"), "verilog", spec=lnm.Fixed(16, 12), **COMB)


@pytest.mark.parametrize(
    "files",
    [["../x.v", "{x}", "link/x.v", "none", 3, "sim", "rtl/../rtl/lif_comb.v", "{own}"], 5, None],
)
def test_a_manifest_names_no_file_outside(tmp_path: Path, files: object, comb: Source) -> None:
    """A manifest that someone changed removes nothing outside its folder."""
    folder, outside = tmp_path / "lif", tmp_path / "x.v"
    comb.write(folder)
    outside.write_text("")
    (folder / "link").symlink_to(tmp_path)
    (folder / "sim").mkdir()
    places = {"{x}": str(outside), "{own}": str(folder / "rtl/lif_comb.v")}
    listed = [places.get(f, f) for f in files] if isinstance(files, list) else files
    (folder / "manifest.json").write_text(json.dumps({"manifest": 1, "emitted": listed}))
    comb.write(folder)
    assert outside.exists()
    assert (folder / "sim").exists()
    assert all((folder / name).is_file() for name in comb.files)
    assert (folder / "manifest.json").read_text() == comb.files["manifest.json"]


@pytest.mark.parametrize(
    ("name", "manifest", "problem"),
    [
        *((name, {"manifest": 1, "emitted": [name]}, f"would remove {{}}/{name}, which")
          for name in ("thesis.txt", "rtl/lif_core.v", "report.json")),
        ("mine.txt", {"name": "an app", "emitted": ["mine.txt"]},
         "would overwrite {}/manifest.json, which"),
    ],
)  # fmt: skip
def test_files_of_another_origin_stay(
    tmp_path: Path, name: str, manifest: dict, problem: str, comb: Source
) -> None:
    """A listed file was once removed without a word, also one that had replaced an emitted one."""
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    before = files_below(tmp_path)
    problem = f"{problem.format(tmp_path)} lnm_codegen did not write"
    with refused(lnm.ModelError, "emit", problem, remedy="Remove it, or give another folder."):
        comb.write(tmp_path)
    assert files_below(tmp_path) == before


def test_mistakes(refuses: Callable[[str], None], tmp_path: Path) -> None:
    """Among them a format of an exact node, which was ignored and stated in the files."""
    (tmp_path / "spec.toml").write_text('default = "16.12"\n[nodes]\nz = "6.2"\nspike = "4.0"\n')
    (tmp_path / "eif.py").write_text(
        "import lnm_codegen as lnm\n\n\n@lnm.family\ndef eif():\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    return lnm.Neuron(charge={v: v / 2 + lnm.exp(v) + x}, fire=v - 1)\n"
    )
    refuses(MISTAKES)


MISTAKES = """
emit lif --out out
    --format 16.12 >> emit: >> 'torch' >> c, verilog >> --backend verilog
    --shift-add 3 >> emit: --shift-add >> --backend verilog
emit lif --out out --backend c
    --rounding truncate >> emit: --rounding >> --format 16.12
    --format 16.12 --dtype float64 >> emit: --dtype >> --format
    --format 16.12 --neurons 3 >> emit: --neurons >> --backend verilog
emit lif --out out --backend verilog
    --format spec.toml >> lif: 'z' is exact and has no format. Accepted: v, x, v_threshold, p0,
        inv_tau, h. Omit z.
    --format 0.3 >> --format '0.3': width is 0 >> from 2 to 32
    --format 33.3 >> --format '33.3': width is 33 >> from 2 to 32
    --format=-16.12 >> --format >> '-16.12' >> such as 16.12, or Q4.12
    --format 16 >> --format >> '16' >> such as 16.12, or Q4.12
    --format 16.12 --rounding up >> --format '16.12': >> 'up' >> 'half_up', 'truncate'
    --dtype float64 >> emit: --dtype >> --format
    --forms comb,fast >> emit: --forms is 'comb,fast' >> seq >> array
    --forms= >> emit: --forms is '' >> some of comb, core, seq, array
    --multiplier ecp5 --shift-add 0 --format 20.16 >> verilog: lif: a factor in h has 20 bits >>
        18 >> multiplier='generic' (--multiplier generic)
    --format 8.7 --set v_threshold=1.5 >> lif: parameter 'v_threshold' is 1.5, which does not fit
        Q1.7 >> -1 to 0.992188
    --format 8.7 --set v_reset=-3.0 >> lif.reset, v_next: the constant -3 does not fit Q1.7 >>
        -1 to 0.992188
    --format no.toml >> no.toml >> no such file
    --format no.toml --rounding truncate >> emit: --rounding with no.toml >> Omit --rounding
emit eif.py:eif --out out --backend verilog
    --format 16.12 >> eif.charge, h: 'exp' has no fixed-point form. Use a polynomial
"""
