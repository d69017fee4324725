"""The command line: what it prints, what it writes, what it says when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends import BACKENDS
from lnm_codegen.cli import VERBS, emit, run
from lnm_codegen.cli.emit import parse_degrees
from lnm_codegen.cli.options import family_arguments
from lnm_codegen.cli.output import write_together
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.surrogate import SURROGATES
from tests.refusals import assert_line, refused

ROOT = Path(__file__).parents[2]
MAIN = "from lnm_codegen.cli import main; main()"


def process(
    *arguments: object, code: str = MAIN, **environment: str
) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, with its output in pipes."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def call(capsys):
    """Run the command in this process: status, standard output, standard error."""

    def call_(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([str(a) for a in arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call_


def files_below(folder: Path) -> dict[str, str]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in found}


def failing(call, *arguments: object) -> tuple[int, str]:
    """Return the status and the one line of a call that fails and prints nothing else."""
    status, out, err = call(*arguments)
    assert out == ""
    assert err.count("\n") == 1
    return status, err.rstrip("\n")


# list and show


def test_list(call):
    """Every family, in one line that nothing cuts off, with what --set takes."""
    status, out, _ = call("list")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines] == ["family", *FAMILIES]
    assert lines[2].endswith(
        "tau=2.0, decay_input=true, v_threshold=1.0, v_reset=0.0, v_rest=none, learn_tau=false,"
        " per=layer, surrogate=none"
    )


def test_list_shows_ranges_as_set_takes_them(call):
    """Several numbers have commas, no parentheses."""
    out = call("list")[1]
    assert ", states=1, parametrisation=free, reset=v, radius=0.5,0.95, angle=0.0,1.5," in out


def test_list_json(call):
    """The same for a script."""
    families = json.loads(call("list", "--json")[1])
    assert [f["name"] for f in families] == list(FAMILIES)
    assert families[-1]["arguments"]["degree"] == 3
    assert all(f["description"] for f in families)


def test_show(call):
    """Equations, the Horner form, the backward kernel and the counts."""
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


def test_show_json(call):
    """What stands in the tables, by name."""
    shown = json.loads(call("show", "lnm", "--degree", 4, "--json", "--set", "per=channel")[1])
    assert shown["operations"]["forward"]["fused"] == 4
    assert shown["values"]["forward"]["read"] == 8
    assert shown["parameters"][0] == {
        "name": "theta",
        "size": 5,
        "init": [0.0, 0.5, 0.0, 0.0, 0.0],
        "learnable": True,
        "per": "channel",
    }
    assert list(shown["kernels"]) == ["forward", "backward", "prepare", "prepare_backward"]


def test_show_drawn_values(call):
    """Numbers that a layer draws are marked, with the sample in JSON."""
    given = ("show", "lnm", "--degree", 1, "--set", "states=2", "--set", "radius=0.5")
    row = next(line for line in call(*given)[1].splitlines() if line.startswith("parameter"))
    text = "theta_v [0.365844, -0.340819] (drawn in a layer) per layer yes"
    assert " ".join(row.split()[1:]) == text
    first, *_, threshold = json.loads(call(*given, "--json")[1])["parameters"]
    assert first["draw"] == (
        "Matrix(poles=Poles(radius=(0.5, 0.5), angle=(0.0, 1.5)), first=0, size=2)"
    )
    assert "draw" not in threshold


def test_show_toml_alone(call):
    """A text definition has no kernels, no passes and no scheme."""
    for others in (("--json",), ("--ir",), ("--ir", "--scheme", "estrin")):
        status, line = failing(call, "show", "lif", "--toml", *others)
        assert status == 2
        words = ", ".join(word for word in others if word.startswith("--"))
        assert_line(line, f"show: --toml with {words}", f"Omit --toml, or {words}.")


def test_show_toml(call, tmp_path):
    """The text is a definition of the same neuron, which every verb takes."""
    status, out, _ = call("show", "lnm", "--degree", 2, "--set", "per=channel", "--toml")
    assert status == 0
    (tmp_path / "mine.toml").write_text(out)
    again = json.loads(call("show", tmp_path / "mine.toml", "--json")[1])
    first = json.loads(call("show", "lnm", "--degree", 2, "--set", "per=channel", "--json")[1])
    assert again["kernels"] == first["kernels"]
    assert again["parameters"] == first["parameters"]


def test_show_a_learned_initial_value(call, tmp_path):
    """The state shows the parameter, and the parameter its own value."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ninputs = ["x"]\nfire = "v - 1"\n[states.v]\ninit = "v_init"\n'
        '[params.v_init]\ninit = 0.25\nper = "channel"\n[charge]\nv = "v/2 + x"\n',
        encoding="utf-8",
    )
    _, out, _ = call("show", tmp_path / "mine.toml")
    rows = [line.split() for line in out.splitlines()]
    assert ["state", "v", "v_init"] in rows
    assert ["parameter", "v_init", "0.25", "per", "channel", "yes"] in rows
    shown = json.loads(call("show", tmp_path / "mine.toml", "--json")[1])
    assert shown["states"] == [{"name": "v", "init": "v_init"}]
    assert [p["name"] for p in shown["parameters"]] == ["v_init"]


def test_show_scheme(call):
    """Estrin's form of a cubic pairs its terms."""
    forward = json.loads(call("show", "lnm", "--scheme", "estrin", "--json")[1])["kernels"]
    assert "fma(fma(theta_3, v, theta_2), v * v, fma(theta_1, v, theta_0))" in forward["forward"]


def test_show_ir(call):
    """The kernel after each pass, in the order of the passes."""
    _, out, _ = call("show", "lif", "--ir")
    names = [line.removeprefix("after ") for line in out.splitlines() if line.startswith("after ")]
    assert names[:7] == ["build", "fold", "collect", "dce", "hoist", "hoist", "backward"]
    assert names[-2:] == ["cse", "inline"]
    passes = json.loads(call("show", "lif", "--ir", "--json")[1])
    assert [p["pass"] for p in passes] == names
    assert all(p["text"] in out for p in passes)


@pytest.mark.parametrize("name", FAMILIES)
def test_show_every_family(call, name):
    """Nothing about a family is out of its reach."""
    status, out, err = call("show", name)
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: equations\n")


def test_piped_output_is_plain():
    """No colour codes, no line cut or wrapped, whatever the environment says of a terminal."""
    shown = process("list", COLUMNS="20", TERM="xterm-256color", FORCE_COLOR="")
    assert "\x1b" not in shown.stdout
    assert "…" not in shown.stdout
    assert len(shown.stdout.splitlines()) == len(FAMILIES) + 1


def test_user_definitions(call, tmp_path):
    """A family may be a TOML file, or a function of a Python file with arguments."""
    text = 'name = "mine"\ninputs = ["x"]\nfire = "v - 1"\n[states.v]\n[charge]\nv = "v + x"\n'
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert json.loads(call("show", tmp_path / "mine.toml", "--json")[1])["name"] == "mine"
    (tmp_path / "mine.py").write_text(
        "import lnm_codegen as lnm\n\n@lnm.family\ndef own(degree=1):\n"
        "    return lnm.get('lnm', degree=degree)\n",
        encoding="utf-8",
    )
    shown = json.loads(call("show", f"{tmp_path}/mine.py:own", "--degree", 2, "--json")[1])
    assert shown["parameters"][0]["size"] == 3


# --set


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-3", -3), ("3.0", 3.0), (".5", 0.5), ("1e-3", 1e-3), ("true", True),
        ("False", False), ("none", None), ("channel", "channel"), ("0,0.5,x", (0, 0.5, "x")),
    ],
)  # fmt: skip
def test_values_of_set(text, value):
    """Numbers, the three words, other words, several with commas."""
    found = family_arguments([f"k={text}"])["k"]
    assert found == value
    assert type(found) is type(value)


def test_set_surrogate():
    """A surrogate by its name, with or without arguments."""
    assert family_arguments(["surrogate=none"]) == {"surrogate": None}
    assert family_arguments(["surrogate=erf"])["surrogate"] == lnm.surrogate.erf()
    given = family_arguments(["surrogate=atan(alpha=3)"])["surrogate"]
    assert given == lnm.surrogate.atan(alpha=3)


KEYS = "tau, decay_input, v_threshold, v_reset, v_rest, learn_tau, per, surrogate"
VALUE = "a number, true, false, none, a word or path, or several of them with commas"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("shwo lif", ("lnm: no command 'shwo'", *VERBS, "'show'?")),
        ("show", ("lnm show: Missing argument 'FAMILY'", "lnm show --help")),
        ("show lif --colour", ("lnm show: No such option: --colour", "lnm show --help")),
        ("emit lif", ("lnm emit: Missing option '--out'", "lnm emit --help")),
        ("show lnn", ("'lnn': ", "fitzhugh_nagumo, ", "file.py:function", "'lnm'?")),
        ("show no.toml", ("no.toml: no such file", "TOML file.")),
        ("show lif --degree 3", ("lif: ", "'degree'", KEYS)),
        ("show lnm --degree 9", ("lnm: degree is 9", "an integer from 1 to 8")),
        ("show lif --scheme best", ("lower: scheme is 'best'", "'horner', 'estrin'")),
        ("show lif --set tau", ("--set 'tau': not KEY=VALUE", "--set tau=3.0")),
        ("emit lif --backend c --backend cuda", ("emit", "--backend is given twice", "commas")),
        ("emit lif --backend=c --forms core --forms=seq", ("emit", "--forms is given twice")),
        ("synth here --form core --form seq", ("synth", "--form is given twice")),
        ("verify here --only lint --only lint", ("verify", "--only is given twice")),
        ("bench lif --steps 4 --steps 8", ("bench", "--steps is given twice", "Give it once")),
        ("bench lif --neurons 4,2 --neurons 8,2", ("bench", "--neurons is given twice")),
        ("explain lif --shape 4 --shape 8", ("explain", "--shape is given twice")),
        ("train --channels 2 --channels 4", ("train", "--channels is given twice")),
        ("show lif --set tau=2 --set tau=3", ("--set 'tau=3': tau is given twice",)),
        (
            "show lnm --degree 3 --set degree=3",
            ("--set 'degree=3': degree is given twice", "Give it once."),
        ),
        (
            "show lif --set tau=__import__('os')",
            ("--set tau=__import__('os'): ", "\"__import__('os')\"", VALUE),
        ),
        ("show lif --set tau=1e999", ("--set tau=1e999: ", "'1e999'", VALUE)),
        ("show lif --set tau=0.5", ("lif: tau is 0.5", "a number > 1")),
        (
            "show lif --set surrogate=atna",
            ("--set surrogate=atna: ", *SURROGATES, "atan(alpha=3)", "'atan'?"),
        ),
        ("show lif --set surrogate=atan(beta=1)", ("--set surrogate=atan(beta=1): ", "'beta'")),
        ("check qif --set v_c=-50", ("check: qif", "Use other parameters, or another --scale.")),
    ],
)
def test_mistakes_of_the_user(call, arguments, parts):
    """One line that says what is accepted, and exit status 2."""
    status, line = failing(call, *arguments.split())
    assert status == 2
    assert_line(line, *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--degree 4..1", ("--degree '4..1': ", "empty", "low <= high")),
        ("--degree 1..9999", ("--degree '1..9999': ", "too long", "at most 64")),
        ("--degree 1-4", ("--degree '1-4': ", "not a degree", "1..4")),
        ("--degree 7..9", ("lnm: degree is 9", "an integer from 1 to 8")),
        ("--degree 0..2", ("lnm: degree is 0", "an integer from 1 to 8")),
        (
            "--backend c,rust",
            ("emit: backend is 'rust'", *(f"'{name}'" for name in BACKENDS), "'verilog'"),
        ),
        (
            "--dtype half",
            ("emit: dtype is 'half'", "'float32', 'float64', 'bfloat16', 'float16'"),
        ),
        ("--name ../x", ("--name", "'../x'", "letters, digits and '_'")),
    ],
)
def test_emit_refuses_before_it_writes(call, tmp_path, arguments, parts):
    """Every degree and backend is made before the first file: a mistake leaves nothing behind."""
    out = tmp_path / "out"
    given = ["emit", "lnm", "--backend", "c", "--out", out, *arguments.split()]
    if "--backend" in arguments:
        del given[2:4]
    status, line = failing(call, *given)
    assert status == 2
    assert_line(line, *parts)
    assert not out.exists()


def test_debug_shows_the_traceback(call):
    """--debug may stand anywhere; the line and the status stay."""
    for arguments in (("--debug", "show", "lfi"), ("show", "lfi", "--debug")):
        status, _, err = call(*arguments)
        assert status == 2
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("error: 'lfi': no built-in family.")


def test_a_path_that_cannot_be_written(call, tmp_path):
    """It is the user's mistake, status 2, and leaves no empty folder behind."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    blocked = tmp_path / "here" / "c" / "lif" / "lif.cpp"
    blocked.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for out, *parts in (
        (tmp_path / "file" / "out", f"{tmp_path}/file/out", "Not a directory", "Give a folder"),
        (Path("/proc/foo"), "/proc/foo", "No such file or directory", "Give a folder"),
        (tmp_path / "here", str(blocked), "a folder", "Remove it"),
    ):
        status, line = failing(call, "emit", "lif", "--out", out)
        assert status == 2
        assert_line(line, "emit: cannot write ", *parts)
        assert sorted(tmp_path.rglob("*")) == before
    out = tmp_path / "file" / "out"
    status, line = failing(call, "quantize", "if", "--error", ".1", "--out", out)
    assert status == 2
    assert_line(line, "quantize: cannot write ", str(out), "Not a directory")


def test_files_of_the_user_are_not_overwritten(call, tmp_path):
    """They once were, by a package in the folder of a project and by formats beside a neuron."""
    for name in ("pyproject.toml", "README.md", "if.toml"):
        (tmp_path / name).write_text("mine")
    before = files_below(tmp_path)
    status, line = failing(call, "package", "if", "--backend", "c", "--out", tmp_path)
    assert status == 2
    assert_line(line, f"package: would overwrite {tmp_path}/README.md, which", "1 more", "another")
    status, line = failing(call, "quantize", "if", "--error", ".1", "--out", tmp_path)
    assert status == 2
    assert_line(line, f"quantize: would overwrite {tmp_path}/if.toml, which lnm_codegen did not")
    assert files_below(tmp_path) == before


def test_a_full_disk_is_not_the_users_mistake(monkeypatch, tmp_path):
    """What the machine lacks is a ToolError, exit status 1."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lnm_codegen.files.os.replace", full)
    with refused(lnm.ToolError, "emit", f"{tmp_path}/new: No space left", remedy="Free disk space"):
        write_together({Path("c"): lnm.emit(lnm.get("lif"), "torch")}, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_the_users_mistake(call, tmp_path, monkeypatch):
    """Exit status 1: a bug, which says that it is one."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(emit.emission, "emit", broken)
    assert failing(call, "emit", "lif", "--out", tmp_path) == (
        1,
        "error: internal: ZeroDivisionError: two lines. This is a bug of lnm_codegen; please report"
        " it with what --debug shows.",
    )


# emit


def test_emit_writes_what_lnm_emit_returns(call, tmp_path):
    """DIR/<backend>/<name>/, the paths on standard output, one a line, and nothing else."""
    status, out, _ = call("emit", "lif", "--out", tmp_path, "--set", "tau=3.0")
    expected = {
        f"{backend}/lif/{path}": text
        for backend in BACKENDS
        for path, text in lnm.emit(lnm.get("lif", tau=3.0), backend).files.items()
    }
    assert status == 0
    assert files_below(tmp_path) == expected
    assert out.splitlines() == [str(tmp_path / path) for path in expected]


def test_emit_a_range(call, tmp_path):
    """A folder and a name for each degree; type and scheme are handed on."""
    call("emit", "lnm", "--degree", "1..3", "--backend", "c", "--out", tmp_path, "--dtype",
         "float64", "--scheme", "estrin")  # fmt: skip
    expected = {}
    for degree in (1, 2, 3):
        name = f"lnm_degree{degree}"
        neuron = lnm.get("lnm", degree=degree)
        source = lnm.emit(neuron, "c", name=name, dtype="float64", scheme="estrin")
        expected |= {f"c/{name}/{path}": text for path, text in source.files.items()}
    assert files_below(tmp_path) == expected


@pytest.mark.parametrize(
    ("degree", "name", "folder"),
    [
        (["--degree", "2"], [], "lnm_degree2"),
        (["--degree", "2"], ["--name", "own"], "own"),
        (["--degree", "2..2"], ["--name", "own"], "own_degree2"),
        ([], ["--name", "own"], "own"),
        ([], [], "lnm"),
    ],
)
def test_emit_names(call, tmp_path, degree, name, folder):
    """--name is the whole name, but for a range, whose degrees need one each."""
    call("emit", "lnm", "--backend", "torch", "--out", tmp_path, *degree, *name)
    assert list(files_below(tmp_path)) == [f"torch/{folder}/{folder}_torch.py"]


@pytest.mark.parametrize(
    ("settings", "stem"),
    [
        ([], "lnm"),
        (["states=1"], "lnm"),
        (["states=2"], "lnm_states2"),
        (["states=2", "parametrisation=pole"], "lnm_states2_pole"),
    ],
)
def test_emit_names_different_neurons_differently(call, tmp_path, settings, stem):
    """Files, packages and circuits of two states once had the names of those of one state."""
    given = ["lnm", "--degree", "1", *(word for s in settings for word in ("--set", s))]
    for backend in ("c", "verilog"):
        call("emit", *given, "--backend", backend, "--out", tmp_path)
        assert [p.name for p in (tmp_path / backend).iterdir()] == [f"{stem}_degree1"]
    circuit = tmp_path / "verilog" / f"{stem}_degree1" / "rtl"
    assert (circuit / f"{stem}_degree1_comb.v").is_file()
    call("package", *given, "--backend", "c", "--out", tmp_path / "package")
    assert (tmp_path / "package" / f"{stem}_degree1_c").is_dir()


def test_degrees():
    """One degree, a range of one, a range."""
    assert parse_degrees(None) == ([None], False)
    assert parse_degrees("3") == ([3], False)
    assert parse_degrees("3..3") == ([3], True)
    assert parse_degrees("1..4") == ([1, 2, 3, 4], True)


def test_nothing_half_written(tmp_path):
    """Where one file cannot be written, none of them is."""
    sources = {Path(n): lnm.emit(lnm.get("lif"), "c") for n in ("a", "b")}
    blocked = tmp_path / "b" / "lif.cpp"
    blocked.mkdir(parents=True)
    with pytest.raises(lnm.ModelError, match=r"lif\.cpp: it is a folder"):
        write_together(sources, tmp_path)
    assert files_below(tmp_path) == {}


@pytest.mark.slow
def test_same_bytes_under_every_hash_seed(tmp_path):
    """Generated files depend on the neuron alone."""
    written = []
    for seed in "012":
        out = tmp_path / seed
        done = process("emit", "izhikevich", "--out", out, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        written.append(files_below(out))
    assert written[0]
    assert written[0] == written[1] == written[2]


def test_light_verbs_load_neither_torch_nor_triton(tmp_path):
    """`list`, `show` and `emit` are for scripts and editors, which do not wait for PyTorch."""
    code = (
        "import sys\nfrom lnm_codegen.cli import run\n"
        "for line in sys.argv[1:]:\n"
        "    assert run(line.split()) == 0\n"
        "print(sorted({'torch', 'triton', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = process("list", "show lnm --ir", f"emit lnm --out {tmp_path}", code=code)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


# check


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "arguments",
    ["lif --set learn_tau=true", pytest.param("lnm --degree 3", marks=pytest.mark.slow)],
)
def test_check(call, arguments):
    """Every backend agrees with the interpreter, in both types, gradients included."""
    status, out, err = call("check", *arguments.split(), "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["agrees"]
    assert found["left_out"] == 0
    assert 0.05 < found["spike_rates"]["spike"] < 0.95
    ran = [(r["backend"], r["dtype"]) for r in found["runs"]]
    assert {("c", "float32"), ("c", "float64"), ("torch", "float32"), ("torch", "float64")} <= set(
        ran
    )
    learned = "tau" if "lif" in arguments else "theta"
    for run_ in found["runs"]:
        names = ["spike", "final v", "grad x", "grad v", f"grad {learned}"]
        assert list(run_["differences"]) == names
        assert run_["differences"]["spike"] == 0


@pytest.mark.slow
def test_check_finds_a_difference_and_lists_what_is_missing(monkeypatch):
    """Exit status 1 and NO where a gradient is off by 1e-3; a missing compiler is named."""
    code = (
        "import lnm_codegen.nn.check as agree\nplain = agree._run_layer\n"
        "def wrong(*args):\n"
        "    found = plain(*args)\n"
        "    found['grad x'] = found['grad x'] * 1.001\n"
        "    return found\n"
        "agree._run_layer = wrong\n" + MAIN
    )
    done = process("check", "lif", code=code, CXX="no-such-compiler")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("agrees")] == [["agrees", "NO", "NO"]]
    assert "Not learnable, so without a gradient: tau, v_threshold." in lines
    assert (
        "c did not run: no C++ compiler found (no-such-compiler). Install g++, or use"
        " backend='torch'." in lines
    )
    assert "triton did not run: needs a GPU, and PyTorch finds none." in lines


def test_check_reports_the_scale_and_what_is_not_compared(call, monkeypatch):
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


def test_check_refuses_a_scale(call):
    status, line = failing(call, "check", "lif", "--scale", "-1")
    assert status == 2
    assert_line(line, "check: scale is -1.0", "a number > 0 and <= 1e+09")


@pytest.mark.slow
def test_check_tells_a_failure_from_what_is_missing():
    """A compiler that refuses our source once counted as a missing one, with exit status 0."""
    done = process("check", "lif", CXX="/bin/false")
    assert done.returncode == 1
    assert any(x.startswith("c FAILED: c: /bin/false failed") for x in done.stdout.splitlines())


# doctor and the rest


def test_doctor(call, monkeypatch, tmp_path):
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
    parts = {f["part"]: f for f in json.loads(call("doctor", "--json")[1])}
    assert parts["cache folder"]["detail"] == (
        f"{tmp_path}/cache, writable; LNM_CACHE names another"
    )
    assert len(call("doctor")[1].splitlines()) == len(parts) + 1


def test_the_help_names_every_verb_in_full(call):
    """At 80 columns no summary is cut off with an ellipsis; that of train once was."""
    status, text, _ = call("--help")
    assert status == 0
    lines = text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(VERBS)
    for line in lines:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


def test_version_and_help(call):
    """`lnm` alone explains itself, as does every verb."""
    assert call("--version") == (0, f"lnm_codegen {lnm.__version__}\n", "")
    assert call("show", "--help")[0] == 0
    status, out, err = call()
    assert (status, err) == (0, "")
    for verb in VERBS:
        assert f"\n  {verb} " in out


def test_a_reader_that_leaves():
    """`lnm list | head -0`: no traceback."""
    code = (
        "import os, sys\nfrom lnm_codegen.cli import main\nread, write = os.pipe()\n"
        "os.close(read)\nos.dup2(write, 1)\nmain()"
    )
    done = process("list", code=code)
    assert (done.returncode, done.stderr) == (1, "")


# packages


@pytest.mark.parametrize("old", [False, True])
def test_a_package(call, tmp_path, old):
    """A folder that pip installs, for each degree one; also in the spelling of 0.2."""
    verb, out_option = ("emit", "--package") if old else ("package", "--out")
    folder = tmp_path / "one"
    status, out, err = call(verb, "lif", "--backend", "c", out_option, folder)
    expected = lnm.package(lnm.get("lif"), "c").files
    assert status == 0
    assert err == "note: since 0.3 this is lnm package; see lnm package --help.\n" * old
    assert files_below(folder) == expected
    assert out.splitlines() == [str(folder / path) for path in expected]
    several = tmp_path / "several"
    call(verb, "lnm", "--degree", "1..2", "--backend", "triton", out_option, several)
    assert sorted(p.name for p in several.iterdir()) == ["lnm_degree1", "lnm_degree2"]


def test_mistakes_of_package(call, tmp_path):
    for arguments, parts in (
        (["--backend", "c"], ("lnm package: Missing option '--out'", "--help")),
        (["--out", tmp_path], ("lnm package: Missing option '--backend'", "--help")),
        (
            ["--backend", "c", "--out", tmp_path, "--forms", "comb"],
            ("lnm package: No such option: --forms", "--help"),
        ),
        (
            ["--backend", "torch", "--out", tmp_path],
            ("package: backend is 'torch'", "'c', 'cuda', 'triton'"),
        ),
    ):
        assert_line(failing(call, "package", "lif", *arguments)[1], *parts)
