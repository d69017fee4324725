"""The command line: what it prints, what it writes, what it says when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends import BACKENDS
from lnm_codegen.cli import VERBS, emit
from lnm_codegen.cli.emit import parse_degrees
from lnm_codegen.cli.options import family_arguments
from lnm_codegen.cli.output import write_together
from lnm_codegen.families import FAMILIES
from tests.cli.conftest import Call, files_below
from tests.refusals import assert_line, refused

ROOT = Path(__file__).parents[2]
MAIN = "from lnm_codegen.cli import main; main()"
MINE = (
    'name = "mine"\ninputs = ["x"]\nfire = "v - 1"\n[states.v]\ninit = "v_init"\n'
    '[params.v_init]\ninit = 0.25\nper = "channel"\n[charge]\nv = "v/2 + x"\n'
)


def process(
    *arguments: object, code: str = MAIN, **environment: str
) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, with its output in pipes."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def shown(call: Call, *words: object) -> dict:
    return json.loads(call("show", *words, "--json")[1])


# list and show


def test_list(call: Call) -> None:
    """Every family, in one line that nothing cuts off, with what --set takes; JSON for a script."""
    status, out, _ = call("list")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines] == ["family", *FAMILIES]
    assert lines[2].endswith(
        "tau=2.0, decay_input=true, v_threshold=1.0, v_reset=0.0, v_rest=none, learn_tau=false,"
        " per=layer, surrogate=none"
    )
    assert ", states=1, parametrisation=free, reset=v, radius=0.5,0.95, angle=0.0,1.5," in out
    families = json.loads(call("list", "--json")[1])
    assert [f["name"] for f in families] == list(FAMILIES)
    assert families[-1]["arguments"]["degree"] == 3
    assert all(f["description"] for f in families)


def test_show(call: Call) -> None:
    """Equations, the Horner form, the backward kernel and the counts; in JSON by name."""
    status, out, _ = call("show", "lnm", "--degree", 2)
    assert status == 0
    for text in (
        "charge  v <- theta_0 + theta_1*v + theta_2*v**2 + x",
        "slope   d spike/dz = 1/(pi**2*z**2 + 1)  (atan)",
        "h = fma(fma(theta_2, v, theta_1), v, theta_0) + x",
        "dh_dv = fma(theta_2_x2, v, theta_1)",
        "theta_2_x2 = 2 * theta_2",
    ):
        assert f"  {text}\n" in out
    assert "grad_v_threshold" not in out  # it is not learned
    table = out[out.index("operations ") :].splitlines()
    assert table[1].split() == ["forward", "0", "2", "2", "0", "1", "2", "7"]
    found = shown(call, "lnm", "--degree", 4, "--set", "per=channel")
    assert found["operations"]["forward"]["fused"] == 4
    assert found["values"]["forward"]["read"] == 8
    assert found["parameters"][0] == {
        "name": "theta", "size": 5, "init": [0.0, 0.5, 0.0, 0.0, 0.0], "learnable": True,
        "per": "channel",
    }  # fmt: skip
    assert list(found["kernels"]) == ["forward", "backward", "prepare", "prepare_backward"]
    kernels = shown(call, "lnm", "--scheme", "estrin")["kernels"]
    assert "fma(fma(theta_3, v, theta_2), v * v, " in kernels["forward"]


def test_show_drawn_values(call: Call) -> None:
    """Numbers that a layer draws are marked, with the sample in JSON."""
    given = ("lnm", "--degree", 1, "--set", "states=2", "--set", "radius=0.5")
    lines = call("show", *given)[1].splitlines()
    row = next(line for line in lines if line.startswith("parameter"))
    text = "theta_v [0.365844, -0.340819] (drawn in a layer) per layer yes"
    assert " ".join(row.split()[1:]) == text
    first, *_, threshold = shown(call, *given)["parameters"]
    assert first["draw"] == (
        "Matrix(poles=Poles(radius=(0.5, 0.5), angle=(0.0, 1.5)), first=0, size=2)"
    )
    assert "draw" not in threshold


def test_definitions_of_the_user(call: Call, tmp_path: Path) -> None:
    """A TOML file, as --toml prints it, or a function of a Python file with arguments.

    A state with a learned initial value shows the parameter, and the parameter its own value.
    """
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    _, out, _ = call("show", tmp_path / "mine.toml")
    rows = [line.split() for line in out.splitlines()]
    assert ["state", "v", "v_init"] in rows
    assert ["parameter", "v_init", "0.25", "per", "channel", "yes"] in rows
    found = shown(call, tmp_path / "mine.toml")
    assert (found["name"], found["states"]) == ("mine", [{"name": "v", "init": "v_init"}])
    assert [p["name"] for p in found["parameters"]] == ["v_init"]
    lnm_ = ("lnm", "--degree", 2, "--set", "per=channel")
    status, out, _ = call("show", *lnm_, "--toml")
    (tmp_path / "again.toml").write_text(out)
    first, again = shown(call, *lnm_), shown(call, tmp_path / "again.toml")
    assert status == 0
    assert all(again[key] == first[key] for key in ("kernels", "parameters"))
    (tmp_path / "mine.py").write_text(
        "import lnm_codegen as lnm\n\n@lnm.family\ndef own(degree=1):\n"
        "    return lnm.get('lnm', degree=degree)\n",
        encoding="utf-8",
    )
    assert shown(call, f"{tmp_path}/mine.py:own", "--degree", 2)["parameters"][0]["size"] == 3


def test_show_ir(call: Call) -> None:
    """The kernel after each pass, in the order of the passes."""
    _, out, _ = call("show", "lif", "--ir")
    names = [line.removeprefix("after ") for line in out.splitlines() if line.startswith("after ")]
    assert names[:7] == ["build", "fold", "collect", "dce", "hoist", "hoist", "backward"]
    assert names[-2:] == ["cse", "inline"]
    passes = shown(call, "lif", "--ir")
    assert [p["pass"] for p in passes] == names
    assert all(p["text"] in out for p in passes)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in (
    "izhikevich", "rf", "tc_lif"))) for n in FAMILIES])  # fmt: skip
def test_show_every_family(call: Call, name: str) -> None:
    status, out, err = call("show", name)
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: equations\n")


# --set, and degrees


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("3.0", 3.0), (".5", 0.5), ("1e-3", 1e-3), ("true", True),
        ("False", False), ("none", None), ("channel", "channel"), ("0,0.5,x", (0, 0.5, "x")),
    ],
)  # fmt: skip
def test_values_of_set(text: str, value: object) -> None:
    """Numbers, the three words, other words, several with commas."""
    found = family_arguments([f"k={text}"])["k"]
    assert found == value
    assert type(found) is type(value)


def test_set_surrogate() -> None:
    """A surrogate by its name, with or without arguments."""
    for text, value in (
        ("none", None),
        ("erf", lnm.surrogate.erf()),
        ("atan(alpha=3)", lnm.surrogate.atan(alpha=3)),
    ):
        assert family_arguments([f"surrogate={text}"]) == {"surrogate": value}


def test_degrees() -> None:
    """One degree, a range of one, a range."""
    assert parse_degrees(None) == ([None], False)
    assert parse_degrees("3") == ([3], False)
    assert parse_degrees("3..3") == ([3], True)
    assert parse_degrees("1..4") == ([1, 2, 3, 4], True)


# Mistakes of the user


def test_mistakes_of_the_user(refuses: Callable[[str], None], tmp_path: Path) -> None:
    """One line that says what is accepted, exit status 2; every neuron is made before a file."""
    (tmp_path / "file").write_text("")
    (tmp_path / "here/c/lif/lif.cpp").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "if.toml"):
        (tmp_path / name).write_text("mine")
    refuses(MISTAKES)


MISTAKES = """
shwo
    lif >> lnm: no command 'shwo' >> list, show, emit, package, check, explain, bench, >> 'show'?
show
    lnn >> 'lnn': >> fitzhugh_nagumo, >> file.py:function >> 'lnm'?
    no.toml >> no.toml: no such file >> TOML file.
    lif --toml --json >> show: --toml with --json >> Omit --toml, or --json.
    lif --toml --ir >> show: --toml with --ir >> Omit --toml, or --ir.
    lif --toml --ir --scheme estrin >> show: --toml with --ir, --scheme >> or --ir, --scheme.
    lif --degree 3 >> lif: >> 'degree' >> tau, decay_input, v_threshold, v_reset, v_rest, learn_tau,
        per, surrogate
    lnm --degree 9 >> lnm: degree is 9 >> an integer from 1 to 8
    lif --scheme best >> lower: scheme is 'best' >> 'horner', 'estrin'
    lif --set tau >> --set 'tau': not KEY=VALUE >> --set tau=3.0
    lif --set tau=2 --set tau=3 >> --set 'tau=3': tau is given twice
    lnm --degree 3 --set degree=3 >> --set 'degree=3': degree is given twice >> Give it once.
    lif --set "tau=__import__('os')" >> --set tau=__import__('os'): >> "__import__('os')" >>
        a number, true, false, none, a word or path, or several of them with commas
    lif --set tau=2,v_reset=0 >> --set tau=2,v_reset=0: >> Give --set once for each KEY=VALUE.
    lif --set tau=1e999 >> --set tau=1e999: >> '1e999' >> a number, true, false,
    lif --set tau=0.5 >> lif: tau is 0.5 >> a number > 1
    lif --set surrogate=atna >> --set surrogate=atna: >> atan, >> atan(alpha=3) >> 'atan'?
    lif --set "surrogate=atan(beta=1)" >> --set surrogate=atan(beta=1): >> 'beta'
check
    qif --set v_c=-50 >> check: qif >> Use other parameters, or another --scale.
    lif --scale=-1 >> check: scale is -1.0 >> a number > 0 and <= 1e+09
emit lnm --backend c --out out
    --degree 4..1 >> --degree '4..1': >> empty >> low <= high
    --degree 1..9999 >> --degree '1..9999': >> too long >> at most 64
    --degree 1-4 >> --degree '1-4': >> not a degree >> 1..4
    --degree 7..9 >> lnm: degree is 9 >> an integer from 1 to 8
    --degree 0..2 >> lnm: degree is 0 >> an integer from 1 to 8
    --dtype half >> emit: dtype is 'half' >> 'float32', 'float64', 'bfloat16', 'float16'
    --name ../x >> --name >> '../x' >> letters, digits and '_'
emit lnm --out out
    --backend c,rust >> emit: backend is 'rust' >> 'c', >> 'triton', >> 'verilog'
emit lif
    --out file/out >> emit: cannot write file/out >> Not a directory >> Give a folder
    --out /proc/foo >> emit: cannot write /proc/foo >> No such file or directory >> Give a folder
    --out here >> emit: cannot write here/c/lif/lif.cpp >> a folder >> Remove it
package lif
    --backend c --out . >> package: would overwrite README.md, which >> 1 more >> another
    --backend torch --out out >> package: backend is 'torch' >> 'c', 'cuda', 'triton'
quantize if --error .1
    --out file/out >> quantize: cannot write file/out >> Not a directory
    --out . >> quantize: would overwrite if.toml, which lnm_codegen did not
"""


def test_debug_shows_the_traceback(call: Call) -> None:
    """--debug may stand anywhere; the line and the status stay."""
    for arguments in (("--debug", "show", "lfi"), ("show", "lfi", "--debug")):
        status, _, err = call(*arguments)
        assert status == 2
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("error: 'lfi': no built-in family.")


def test_what_is_not_the_users_mistake(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 1: a bug, which says that it is one; a full disk is a ToolError."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lnm_codegen.files.os.replace", full)
    with refused(lnm.ToolError, "emit", f"{tmp_path}/new: No space left", remedy="Free disk space"):
        write_together({Path("c"): lnm.emit(lnm.get("lif"), "torch")}, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(emit.emission, "emit", broken)
    assert call("emit", "lif", "--out", tmp_path) == (
        1,
        "",
        "error: internal: ZeroDivisionError: two lines. This is a bug of lnm_codegen; please report"
        " it with what --debug shows.\n",
    )


# emit and package


def test_emit_writes_what_lnm_emit_returns(call: Call, tmp_path: Path) -> None:
    """DIR/<backend>/<name>/, the paths on standard output, one a line, and nothing else."""
    status, out, _ = call("emit", "lif", "--out", tmp_path, "--set", "tau=3.0")
    expected = {
        f"{backend}/lif/{path}": text
        for backend in BACKENDS
        for path, text in lnm.emit(lnm.get("lif", tau=3.0), backend).files.items()
    }
    assert status == 0
    assert {n: c.decode() for n, c in files_below(tmp_path).items() if c} == expected
    assert out.splitlines() == [str(tmp_path / path) for path in expected]


def test_emit_a_range(call: Call, tmp_path: Path) -> None:
    """A folder and a name for each degree; type and scheme are handed on."""
    call("emit", "lnm", "--degree", "1..2", "--backend", "c", "--out", tmp_path, "--dtype",
         "float64", "--scheme", "estrin")  # fmt: skip
    for degree in (1, 2):
        name, neuron = f"lnm_degree{degree}", lnm.get("lnm", degree=degree)
        source = lnm.emit(neuron, "c", name=name, dtype="float64", scheme="estrin")
        for path, text in source.files.items():
            assert (tmp_path / "c" / name / path).read_text() == text
    assert len(list((tmp_path / "c").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "stem"),
    [
        ("--degree 2", "lnm_degree2"),
        ("--degree 2 --name own", "own"),
        ("--degree 2..2 --name own", "own_degree2"),
        ("--name own", "own"),
        ("", "lnm"),
        ("--degree 1 --set states=1", "lnm_degree1"),
        ("--degree 1 --set states=2", "lnm_states2_degree1"),
        ("--degree 1 --set states=2 --set parametrisation=pole", "lnm_states2_pole_degree1"),
    ],
)
def test_names_of_files(call: Call, tmp_path: Path, words: str, stem: str) -> None:
    """--name is the whole name, but for a range, whose degrees need one each.

    Neurons of two states once had the names of those of one state.
    """
    call("emit", "lnm", "--backend", "torch", "--out", tmp_path, *words.split())
    assert [n for n, c in files_below(tmp_path).items() if c] == [f"torch/{stem}/{stem}_torch.py"]
    if "states" in words:
        call("package", "lnm", *words.split(), "--backend", "c", "--out", tmp_path / "package")
        assert (tmp_path / "package" / f"{stem}_c").is_dir()


@pytest.mark.parametrize("old", [False, True])
def test_a_package(call: Call, tmp_path: Path, old: bool) -> None:
    """A folder that pip installs, for each degree one; also in the spelling of 0.2."""
    verb, out_option = ("emit", "--package") if old else ("package", "--out")
    status, out, err = call(verb, "lif", "--backend", "c", out_option, tmp_path / "one")
    expected = lnm.package(lnm.get("lif"), "c").files
    assert status == 0
    assert err == "note: since 0.3 this is lnm package; see lnm package --help.\n" * old
    written = {n: c.decode() for n, c in files_below(tmp_path / "one").items()}
    assert {n: text for n, text in written.items() if n in expected} == expected
    assert out.splitlines() == [f"{tmp_path}/one/{path}" for path in expected]
    several = tmp_path / "several"
    call(verb, "lnm", "--degree", "1..2", "--backend", "triton", out_option, several)
    assert sorted(p.name for p in several.iterdir()) == ["lnm_degree1", "lnm_degree2"]


def test_nothing_half_written(tmp_path: Path) -> None:
    """Where one file cannot be written, none of them is."""
    sources = {Path(n): lnm.emit(lnm.get("lif"), "c") for n in ("a", "b")}
    (tmp_path / "b" / "lif.cpp").mkdir(parents=True)
    with pytest.raises(lnm.ModelError, match=r"lif\.cpp: it is a folder"):
        write_together(sources, tmp_path)
    assert list(files_below(tmp_path)) == ["b", "b/lif.cpp"]


# Processes


@pytest.mark.slow
def test_same_bytes_under_every_hash_seed(tmp_path: Path) -> None:
    """Generated files depend on the neuron alone."""
    for seed in "012":
        done = process("emit", "izhikevich", "--out", tmp_path / seed, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    first, *others = (files_below(tmp_path / seed) for seed in "012")
    assert first
    assert others == [first, first]


def test_what_a_process_loads_and_prints(tmp_path: Path) -> None:
    """Verbs for scripts and editors load no PyTorch, nor do the help of train and wrong names.

    In a pipe there are no colour codes, and no line is cut or wrapped, whatever the environment
    says of a terminal.
    """
    code = (
        "import sys\nfrom lnm_codegen.cli import run\n"
        "found = [run(line.split()) for line in sys.argv[1:]]\n"
        "print(found, sorted({'torch', 'triton', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    lines = (
        "list", "show lnm --ir", f"emit lnm --out {tmp_path}/float",
        f"emit lnm --degree 3 --backend verilog --format 16.12 --vectors 9 --out {tmp_path}/fixed",
        "train --help", "train --data digit", "train --family lif --set tua=3",
        "train --data mnist --data-dir nowhere",
    )  # fmt: skip
    done = process(*lines, code=code, COLUMNS="20", TERM="xterm-256color", FORCE_COLOR="")
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 2, 2, 1] []"
    assert not {"\x1b", "…"} & set(done.stdout)
    assert sum(line.split()[0] in FAMILIES for line in done.stdout.splitlines() if line) >= len(
        FAMILIES
    )
    refusals = done.stderr.splitlines()[-3:]
    assert_line(refusals[0], "data: no set 'digit'", "Did you mean 'digits'?")
    assert_line(refusals[1], "lif: ", "'tua'", "tau")
    assert_line(refusals[2], "data: ", "nowhere does not exist", "--data-dir")


def test_a_reader_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lnm list | head -0`: no traceback."""
    code = (
        "import os, sys\nfrom lnm_codegen.cli import main\nread, write = os.pipe()\n"
        "os.close(read)\nos.dup2(write, 1)\nmain()"
    )
    done = process("--version", code=code)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
def test_completion(tmp_path: Path) -> None:
    """A verb is imported for its options alone; an unknown one completes to nothing.

    `lnm --install-completion` in bash writes a script that bash reads.
    """

    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        done = process(_LNM_COMPLETE="complete_bash", **words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    assert completed("lnm ") == list(VERBS)
    assert completed("lnm tr") == ["train"]
    assert completed("lnm emit --sch") == ["--scheme"]
    assert completed("lnm nope --sch") == []
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    line = f"{sys.executable} -m lnm_codegen.cli --install-completion; exit $?"
    env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    subprocess.run(["bash", "-c", line], env=env, capture_output=True, check=True)
    script = tmp_path / ".bash_completions" / "lnm.sh"
    assert str(script) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
    read = ["bash", "-c", f"source {script}; complete -p lnm"]
    done = subprocess.run(read, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "complete -o default -F _lnm_completion lnm"


# check


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("arguments", ["lif --set learn_tau=true", "lnm --degree 3"])
def test_check(call: Call, arguments: str) -> None:
    """Every backend agrees with the interpreter, in both types, gradients included."""
    status, out, err = call("check", *arguments.split(), "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["agrees"]
    assert found["left_out"] == 0
    assert 0.05 < found["spike_rates"]["spike"] < 0.95
    ran = {(r["backend"], r["dtype"]) for r in found["runs"]}
    assert {(name, dtype) for name in ("c", "torch") for dtype in ("float32", "float64")} <= ran
    learned = "tau" if "lif" in arguments else "theta"
    for run_ in found["runs"]:
        names = ["spike", "final v", "grad x", "grad v", f"grad {learned}"]
        assert list(run_["differences"]) == names
        assert run_["differences"]["spike"] == 0


def test_check_finds_a_difference(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1 and NO where a gradient is off by 1e-3."""
    from lnm_codegen.nn import check

    plain = check._run_layer

    def wrong(*given: object) -> dict:
        found = plain(*given)
        return found | {"grad x": found["grad x"] * 1.001}

    monkeypatch.setattr(check, "BACKENDS", ("torch",))
    monkeypatch.setattr(check, "_run_layer", wrong)
    status, out, _ = call("check", "lif")
    lines = out.splitlines()
    assert status == 1
    assert [line.split() for line in lines if line.startswith("agrees")] == [["agrees", "NO", "NO"]]
    assert "Not learnable, so without a gradient: tau, v_threshold." in lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "status", "line"),
    [
        ("/bin/false", 1, "c FAILED: c: /bin/false failed"),
        ("no-such-compiler", 0, "c did not run: no C++ compiler found (no-such-compiler). Install"),
    ],
)
def test_check_tells_a_failure_from_what_is_missing(compiler: str, status: int, line: str) -> None:
    """A compiler that refuses our source once counted as a missing one, with exit status 0."""
    done = process("check", "lif", CXX=compiler)
    assert done.returncode == status
    assert any(x.startswith(line) for x in done.stdout.splitlines())


def test_check_reports_the_scale_and_what_is_not_compared(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spike that never occurs is in the verdict; it once read "yes" as if it were compared."""
    from lnm_codegen.nn import check as compare

    monkeypatch.setattr(compare, "BACKENDS", ("auto", "torch"))
    status, out, err = call("check", "rf")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("rf: 37 steps of 1065 neurons, spike in ")
    assert lines[0].endswith(" % of them; inputs drawn in [-16, 32], scale 16")
    assert [x.split() for x in lines if x.startswith("agrees")] == [["agrees", "yes", "yes"]]
    status, out, _ = call("check", "rf", "--scale", "1")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].endswith(" spike in 0 % of them; inputs drawn in [-1, 2], scale 1")
    assert lines[1] == "No input drawn makes it spike: the reset is not compared."
    assert [x.split("  ")[-1] for x in lines if x.startswith("agrees")] == ["yes, but for spike"]
    found = json.loads(call("check", "rf", "--scale", "1", "--json")[1])
    assert (found["scale"], found["constant_spikes"]) == (1, ["spike"])


# doctor and the rest


def test_doctor(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each part with what it is for; a cache folder that cannot be written is not found."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "file" / "cache"))
    status, out, _ = call("doctor", "--json")
    parts = {f["part"]: f for f in json.loads(out)}
    assert status == 0
    assert list(parts) == [
        "python", "torch", "triton", "matplotlib", "scikit-learn", "CUDA device", "C++ compiler",
        "OpenMP", "CPU SIMD", "cache folder", "C kernels", "iverilog", "verilator", "yosys",
        "yosys-smtbmc", "nextpnr-ecp5", "nextpnr-ice40", "sby", "arm-none-eabi-gcc",
        "qemu-system-arm", "boolector", "cocotb", "apytypes", "fashion-mnist",
    ]  # fmt: skip
    assert parts["python"]["found"]
    assert parts["torch"]["found"]
    assert not parts["cache folder"]["found"]
    assert parts["cache folder"]["detail"] == (
        f"{tmp_path}/file/cache: Not a directory. Set LNM_CACHE to a folder that can be written."
    )
    assert all(p["needed_for"] and p["detail"] for p in parts.values())
    assert parts["C kernels"]["found"] == parts["C++ compiler"]["found"]
    if parts["C kernels"]["found"]:
        assert "'auto' compiles into" in parts["C kernels"]["detail"]
        assert "Not a directory" in parts["C kernels"]["detail"]
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "cache"))
    lines = call("doctor")[1].splitlines()
    assert len(lines) == len(parts) + 1
    assert any(f"{tmp_path}/cache, writable; LNM_CACHE names another" in line for line in lines)


def test_version_and_help(call: Call) -> None:
    """`lnm` alone explains itself; at 80 columns no summary is cut off, as that of train was."""
    assert call("--version") == (0, f"lnm_codegen {lnm.__version__}\n", "")
    assert call("show", "--help")[0] == 0
    status, text, err = call()
    assert (status, err) == (0, "")
    assert call("--help")[:2] == (0, text)
    lines = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(VERBS)
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line
