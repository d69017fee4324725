"""Command that regenerates the folder of a network, for its README."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

README = "README.md"


def command_of(run: object, backend: str, out: object, given: Mapping[str, object]) -> str:
    """Return the line of `lnm emit --network`, with paths as they were given.

    Args:
        run: `--run`.
        backend: `--backend`.
        out: `--out`.
        given: Further options: a value, True for an option without one; None or False is omitted.
    """
    words = ["lnm", "emit", "--run", str(run), "--network", "--backend", backend]
    for option, value in given.items():
        if value is None or value is False:
            continue
        words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "--out", str(out)])


def with_command(readme: str, command: str) -> str:
    """Return a README that ends with the command of its folder."""
    return f"{readme}\n## Command\n\nThis command wrote the folder:\n\n```sh\n{command}\n```\n"
