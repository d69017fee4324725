"""Command `lnm`: a file for each verb, imported when the verb is called.

The exit status is 0 for success and 2 for a mistake of the user: an unknown option, a path that
cannot be written, `ModelError`, `ShapeError`, `UnsupportedError`. It is 1 for everything else:
`ToolError`, `InternalError`, an unexpected exception, and a `check` or `verify` that fails; and 3
for a `verify` that lacks a tool and for a `quantize` that misses its target. It is 130 after
Ctrl-C. An error is one line on standard error; `--debug` also prints the traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import lnm_codegen
from lnm_codegen.errors import LnmError, ModelError, ShapeError, UnsupportedError
from lnm_codegen.validation import did_you_mean

VERBS = {
    "list": "lnm_codegen.cli.list_:list_families",
    "show": "lnm_codegen.cli.show:show",
    "emit": "lnm_codegen.cli.emit:emit",
    "package": "lnm_codegen.cli.emit:package",
    "check": "lnm_codegen.cli.check:check",
    "explain": "lnm_codegen.cli.explain:explain",
    "bench": "lnm_codegen.cli.bench:bench",
    "bench-network": "lnm_codegen.cli.bench:bench_network",
    "train": "lnm_codegen.cli.train:train",
    "compare": "lnm_codegen.cli.compare:compare",
    "analyze": "lnm_codegen.cli.analyze:analyze",
    "quantize": "lnm_codegen.cli.quantize:quantize",
    "deploy": "lnm_codegen.cli.deploy:deploy",
    "arrays": "lnm_codegen.cli.arrays:arrays",
    "verify": "lnm_codegen.cli.verify:verify",
    "synth": "lnm_codegen.cli.synth:synth",
    "report": "lnm_codegen.cli.report:report",
    "doctor": "lnm_codegen.cli.doctor:doctor",
}
"""Verb -> module and function, whose signature is its options. No module has the name of a builtin,
since an imported module becomes a global of this file."""

_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]  # Click's, whose name in typer changes


class _Verb(TyperCommand):
    """A verb; refuses a list option that is given twice, whose first value would be ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a shell asks for completions
            return super().parse_args(ctx, args)
        try:
            options = self.make_parser(ctx).parse_args(args=list(args))[2]
        except _USAGE_ERROR as error:
            error.ctx = ctx  # which names the verb, and which Click leaves out
            raise
        for option in options:
            if str(option.metavar).endswith(",...") and options.count(option) > 1:
                problem = f"{option.opts[0]} is given twice"
                raise ModelError(self.name, problem, remedy="Give it once, with commas.")
        return super().parse_args(ctx, args)


class _Verbs(TyperGroup):
    """Group of verbs; imports a verb when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(
            ctx, args if ctx.resilient_parsing else of_this_version(args)
        )

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            if ctx.resilient_parsing:  # a shell completes the line
                return None
            hint = did_you_mean(cmd_name, VERBS)
            raise ModelError("lnm", f"no command {cmd_name!r}", VERBS, hint)
        from lnm_codegen.cli.options import as_verb

        module, function = VERBS[cmd_name].split(":")
        verb = as_verb(cmd_name, getattr(importlib.import_module(module), function))
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name, cls=_Verb)(verb)
        return typer.main.get_command(one)


app = typer.Typer(cls=_Verbs, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _lnm(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,  # noqa: ARG001 (read by run)
) -> None:
    """Compile spiking-neuron models to kernels.

    FAMILY is a built-in name (see `lnm list`), a .toml file, file.py:function or module:function.
    The last two run that file.
    """
    if version:
        typer.echo(f"lnm_codegen {lnm_codegen.__version__}")
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status. `--debug` is accepted anywhere."""
    debug = "--debug" in arguments
    rest = [a for a in arguments if a != "--debug"]
    try:
        status = app(args=rest, prog_name="lnm", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe has closed it: `lnm list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, status = _explain(error)
        print(f"error: {' '.join(message.splitlines())}", file=sys.stderr)
        return status
    return status if isinstance(status, int) else 0


def of_this_version(line: list[str]) -> list[str]:
    """Return a command line of 0.2 in the verbs of this version.

    `emit FAMILY --package DIR` is `package FAMILY --out DIR`, `emit --run RUN --network` is
    `deploy RUN`, `emit --run RUN` is `arrays RUN`, and `bench FAMILY --network NETWORK` is
    `bench-network NETWORK FAMILY`.
    """
    words = [part for word in line for part in (word.split("=", 1) if word[:2] == "--" else [word])]
    if line[:1] == ["bench"] and "--network" in words[:-1]:
        at = words.index("--network")
        verb, options = "bench-network", [words[at + 1], *words[1:at], *words[at + 2 :]]
    elif line[:1] != ["emit"] or not {"--package", "--run", "--network"} & {*words}:
        return line
    elif "--package" in words:
        verb, options = "package", ["--out" if word == "--package" else word for word in words[1:]]
    else:
        verb = "deploy" if "--network" in words else "arrays"
        options = [word for word in words[1:] if word not in ("--run", "--network")]
        if verb == "arrays" and "--backend" in options:
            at = options.index("--backend")
            options[at : at + 2] = [] if options[at + 1 : at + 2] == ["verilog"] else options[at:]
    typer.echo(f"note: since 0.3 this is lnm {verb}; see lnm {verb} --help.", err=True)
    return [verb, *options]


def _explain(error: Exception) -> tuple[str, int]:
    """Return one line for an exception, and the exit status."""
    if isinstance(error, _USAGE_ERROR):
        usage: Any = error
        command = usage.ctx.command_path if usage.ctx else "lnm"
        message = usage.format_message().rstrip(".")
        return f"{command}: {message}. See {command} --help.", 2
    if isinstance(error, ModelError | ShapeError | UnsupportedError):
        return str(error), 2
    if isinstance(error, LnmError):
        return str(error), 1
    return (
        f"internal: {type(error).__name__}: {error}. This is a bug of lnm_codegen; please report"
        " it with what --debug shows.",
        1,
    )
