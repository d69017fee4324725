r"""A neuron from a TOML file: `load("my_lif.toml")`.

    name = "my_lif"                      # an identifier; required
    inputs = ["x"]
    fire = "v - v_threshold"             # or [fire] with a key per spike: up = "v - 1"
    output = "spike"                     # the default; or [output] with a key per output
    surrogate = "atan"                   # or [surrogate] kind = "atan", alpha = 2.0;
                                         # or [surrogate.up] for each spike
    detach_reset = false                 # the default
    [states.v]
    init = 0.0                           # the default
    [params.tau]
    init = 2.0                           # default 0.0
    learnable = true                     # the default
    per = "layer"                        # the default; or "channel", "neuron"
    [params.theta]
    size = 4                             # a vector: theta[0] to theta[3]
    init = [0, 0.5, 0, 0]
    [charge]
    v = "v + (x - v)/tau"
    [reset]
    v = "where(spike, 0, v)"

The order in the file is the order of declaration: states, then inputs, then parameters. What
stands for an expression is read by `expression.py`, which has the grammar and never runs code;
what the phases mean is said in `neuron.py`. TOML gives every key below a `[table]` line to that
table, so that `inputs`, `fire`, `output` and the like stand above the first one.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import (
    SCOPE,
    Declared,
    Scope,
    Vector,
    input,
    param,
    spike_named,
    state,
)
from lnm_codegen.language.text.content import Content, is_number, joined, shorten_value, text_of
from lnm_codegen.language.text.cost import MAX_EXPONENT
from lnm_codegen.language.text.expression import CONSTANTS, FUNCTIONS, parse
from lnm_codegen.language.text.surrogate import read_surrogate
from lnm_codegen.language.text.tree import shorten

_KEYS = (
    "name", "inputs", "fire", "output", "surrogate", "detach_reset",
    "states", "params", "charge", "reset",
)  # fmt: skip
_EXPRESSION = 'an expression in quotes, such as "v - 1"'
_NAME = 'a name in quotes, such as "my_lif"'


def load(path: str | os.PathLike[str]) -> Neuron:
    """Return the neuron that a TOML file defines.

    Raises:
        ModelError: The file cannot be read, or its content is not a definition; one line that
            begins with the file and the key.
    """
    try:
        file = Path(path)
    except TypeError:
        raise ModelError("load", f"path is {path!r}", "the path of a TOML file") from None
    return read(text_of(file), str(file))


def read(text: str, source: str) -> Neuron:
    """Return the neuron that `text` defines; errors begin with `source`."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(source, f"not valid TOML: {error}") from None
    except (ValueError, RecursionError) as error:  # an integer of 5000 digits, nested arrays
        raise ModelError(source, f"not valid TOML: {type(error).__name__}, {error}") from None
    return _Definition(source, content).neuron()


class _Definition:
    """The content of one file on its way to a `Neuron`."""

    def __init__(self, source: str, content: dict[str, Any]) -> None:
        self._file = Content(source, content, _KEYS)
        self._states: dict[str, Declared] = {}
        self._spikes: dict[str, Declared] = {}
        self._symbols: dict[str, Declared | Vector] = {}

    def neuron(self) -> Neuron:
        """Read every key and build the neuron."""
        self._file.keys(self._file.tables, "", _KEYS)
        name = self._file.get(self._file.tables, "", "name", str, _NAME)
        if not name.isidentifier():
            self._file.refuse("name", f"{shorten(name)}. Accepted: an identifier.")
        scope = SCOPE.set(Scope("definition", []))
        try:
            self._declare()
            fire = self._fire()
            both = {**self._symbols, **self._spikes}
            fields: dict[str, Any] = {
                "charge": self._phase("charge", self._symbols),
                "fire": fire,
                "reset": self._phase("reset", both),
                "output": self._output(both),
                "surrogate": read_surrogate(self._file, self._spikes),
                "detach_reset": self._file.get(
                    self._file.tables, "", "detach_reset", bool, "true or false", default=False
                ),
            }
            neuron: Neuron = self._file.located(Neuron, name=name, **fields)
            return neuron
        except RecursionError:
            self._file.refuse("", "an expression is nested too deeply. Split it up.")
        finally:
            SCOPE.reset(scope)

    def _declare(self) -> None:
        for key, table in self._file.table("states").items():
            where = self._begin("states", key, table, ("init",))
            init = self._init(table, where, None)
            self._symbols[key] = self._states[key] = self._file.located(state, key, init)
        for key in self._inputs():
            self._check_word("inputs", key)
            self._symbols[key] = self._file.located(input, key)
        for key, table in self._file.table("params").items():
            where = self._begin("params", key, table, ("size", "init", "learnable", "per"))
            size = self._size(table, where)
            init = self._init(table, where, size)
            learnable = self._file.get(
                table, where, "learnable", bool, "true or false", default=True
            )
            per = table.get("per", "layer")
            self._symbols[key] = self._file.located(param, key, size, init, learnable, per)

    def _begin(self, group: str, key: str, table: Any, accepted: tuple[str, ...]) -> str:
        """Check one declaration's name and keys, and return where it stands."""
        if not isinstance(table, dict):
            if key in _KEYS:
                self._file.keys({key: table}, group, ())
            self._file.refuse(
                joined(group, key), f"{shorten_value(table)}. Accepted: a table, [{group}.name]."
            )
        self._check_word(group, key)
        where = joined(group, key)
        self._file.keys(table, where, accepted)
        return where

    def _check_word(self, where: str, word: str) -> None:
        if word in FUNCTIONS or word in CONSTANTS:
            self._file.refuse(where, f"{word!r} is a word of the expressions. Choose another name.")
        if word in self._symbols or word in self._spikes:
            self._file.refuse(where, f"{word!r} is declared twice. Rename one of them.")

    def _inputs(self) -> list[str]:
        names = self._file.tables.get("inputs", [])
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            self._file.refuse(
                "inputs", f'{shorten_value(names)}. Accepted: a list of names, such as ["x"].'
            )
        return names

    def _size(self, table: dict[str, Any], where: str) -> int | None:
        size = table.get("size")
        if size is not None and (type(size) is not int or not 1 <= size <= MAX_EXPONENT + 1):
            self._file.refuse(
                joined(where, "size"),
                f"{shorten_value(size)}. Accepted: an integer from 1 to {MAX_EXPONENT + 1}, or no"
                " size for a scalar.",
            )
        return size

    def _init(self, table: dict[str, Any], where: str, size: int | None) -> Any:
        init = table.get("init", 0.0)
        if is_number(init):
            return init
        if size is not None and isinstance(init, list) and len(init) == size:
            if all(is_number(value) for value in init):
                return init
        wanted = "a finite number" if size is None else f"a finite number, or a list of {size}"
        hint = " A vector needs its size too." if size is None and isinstance(init, list) else ""
        self._file.refuse(
            joined(where, "init"), f"{shorten_value(init)}. Accepted: {wanted}.{hint}"
        )

    def _fire(self) -> dict[Declared, Any] | None:
        given = self._file.tables.get("fire")
        if given is None:
            return None
        texts = given if isinstance(given, dict) else {"spike": given}
        for key in texts:
            self._check_word("fire", key)
            self._spikes[key] = self._file.located(spike_named, key)
        single = not isinstance(given, dict)
        return {
            self._spikes[key]: self._parse(
                text, "fire" if single else joined("fire", key), self._symbols
            )
            for key, text in texts.items()
        }

    def _phase(self, key: str, names: dict[str, Declared | Vector]) -> dict[Declared, Any]:
        table = self._file.table(key)
        self._file.keys(table, key, self._states)
        return {
            self._states[name]: self._parse(text, joined(key, name), names)
            for name, text in table.items()
        }

    def _output(self, names: dict[str, Declared | Vector]) -> Any:
        given = self._file.tables.get("output")
        if isinstance(given, dict):
            return {k: self._parse(text, joined("output", k), names) for k, text in given.items()}
        if given is not None:
            return self._parse(given, "output", names)
        if "spike" not in self._spikes:
            self._file.refuse(
                "output",
                "missing, and no spike is named 'spike'. Give an expression in quotes, or [output]"
                " with a key per output.",
            )
        return None

    def _parse(self, text: Any, where: str, names: dict[str, Declared | Vector]) -> Any:
        if not isinstance(text, str):
            self._file.refuse(where, f"{shorten_value(text)}. Accepted: {_EXPRESSION}.")
        hidden = {
            key: f"{key!r} is a spike, which only reset and output may read. To use the last"
            f' spike, keep it in a state: [reset] s_prev = "{key}".'
            for key in self._spikes
        }
        return parse(text, names, f"{self._file.source}: {where}", hidden)
