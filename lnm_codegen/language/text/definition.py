"""Text definitions: a neuron from a TOML file, `load("my_lif.toml")`.

`docs/definitions.md` has examples and every key. Declarations have the order of the file: states,
then inputs, then parameters. `expression.py` reads the expressions and never runs code; `neuron.py`
explains the phases.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.files import MAX_BYTES, parse_toml, toml_of
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.binding import bind
from lnm_codegen.language.bounds import MAX_EXPONENT
from lnm_codegen.language.misuse import SPIKES_WHERE
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
    undriven,
)
from lnm_codegen.language.text.expression import CONSTANTS, FUNCTIONS, parse
from lnm_codegen.language.text.tables import Content, draw_of, init_of, joined, surrogates_of
from lnm_codegen.validation import is_number, wrong

_KEYS = (
    "name", "inputs", "fire", "output", "surrogate", "detach_reset",
    "states", "params", "bound", "charge", "reset",
)  # fmt: skip
_PARAM_KEYS = ("size", "init", "learnable", "per", "draw")
_EXPRESSION = 'an expression in quotes, such as "v - 1"'
_INPUTS = 'a list of names, such as ["x"]; {name = "x", read = false} for one that nothing reads'
_KEYWORDS = ("if",)
"""Keywords of Python that name a built-in family."""
_MAX_SIZE = MAX_EXPONENT + 1
_Names: TypeAlias = dict[str, Declared | Vector]


def load(path: str | os.PathLike[str]) -> Neuron:
    """Return the neuron that a TOML file defines.

    Raises:
        ModelError: The file cannot be read, or is not a definition; one line that begins with the
            file and the key.
    """
    try:
        file = Path(path)
    except TypeError:
        raise wrong("load", "path", path, "the path of a TOML file") from None
    return _Definition(str(file), toml_of(file)).neuron()


def read(text: str, source: str) -> Neuron:
    """Return the neuron that `text` defines; errors begin with `source`.

    Raises:
        ModelError: The text is longer than `MAX_BYTES`, or is not a definition.
    """
    if len(text) > MAX_BYTES:
        raise ModelError(source, "the text is too large", f"at most {MAX_BYTES} characters")
    return _Definition(source, parse_toml(text, source)).neuron()


class _Definition:
    """Reader of one definition."""

    def __init__(self, source: str, content: dict[str, Any]) -> None:
        self._file = Content(source, content, _KEYS)
        self._top = content
        self._states: dict[str, Declared] = {}
        self._spikes: dict[str, Declared] = {}
        self._symbols: _Names = {}

    def neuron(self) -> Neuron:
        """Read every key and build the neuron."""
        self._file.require_keys(self._top, "", _KEYS)
        accepted = 'a name in quotes, such as "my_lif"'
        name = self._file.get(self._top, "", "name", str, accepted)
        if not name.isidentifier():
            self._file.refuse_value("name", name, "an identifier")
        scope = SCOPE.set(Scope(name, []))
        try:
            self._declare()
            self._declare_spikes()
            self._bind()
            fire = self._fire()
            both = {**self._symbols, **self._spikes}
            fields: dict[str, Any] = {
                "charge": self._phase("charge", self._symbols),
                "fire": fire,
                "reset": self._phase("reset", both),
                "output": self._output(both),
                "surrogate": surrogates_of(self._file, self._top.get("surrogate"), self._spikes),
                "detach_reset": self._bool(self._top, "", "detach_reset", default=False),
            }
            given = None if name in _KEYWORDS else name
            neuron: Neuron = self._file.with_source(Neuron, name=given, **fields)
            return neuron
        except RecursionError:
            problem = "an expression is nested too deeply"
            self._file.refuse("", problem, remedy="Split the expression.")
        finally:
            SCOPE.reset(scope)

    def _bool(self, table: dict[str, Any], where: str, key: str, default: bool) -> bool:
        return bool(self._file.get(table, where, key, bool, "true or false", default=default))

    def _declare(self) -> None:
        states = self._file.table("states", "state")
        learned = any(
            isinstance(t, dict) and isinstance(t.get("init"), str) for t in states.values()
        )
        if learned:  # a state names a parameter, which is declared before it
            self._declare_params()
        for key, table in states.items():
            where = self._declaration_place("states", key, table, ("init",))
            init = self._start(table, where)
            self._symbols[key] = self._states[key] = self._file.with_source(state, key, init)
        self._declare_inputs()
        if not learned:
            self._declare_params()

    def _start(self, table: dict[str, Any], where: str) -> Any:
        """Return the initial value of a state: a number, or a scalar parameter that it names."""
        given = table.get("init", 0.0)
        if not isinstance(given, str):
            return self._init(table, where, None)
        scalars = {
            name: symbol
            for name, symbol in self._symbols.items()
            if isinstance(symbol, Declared) and isinstance(symbol.decl, Param)
        }
        if given not in scalars:
            names = ", ".join(scalars) or "the file declares none"
            accepted = f"a finite number, or a scalar parameter: {names}"
            self._file.refuse_value(joined(where, "init"), given, accepted)
        return scalars[given]

    def _declare_inputs(self) -> None:
        inputs = self._top.get("inputs", [])
        if not isinstance(inputs, list):
            self._file.refuse_value("inputs", inputs, _INPUTS)
        for given in inputs:
            key, make = (given["name"], undriven) if _is_unread(given) else (given, input)
            if not isinstance(key, str):
                self._file.refuse_value("inputs", given, _INPUTS)
            self._require_unused_name("inputs", key)
            self._symbols[key] = self._file.with_source(make, key)

    def _declare_params(self) -> None:
        for key, table in self._file.table("params", "parameter").items():
            where = self._declaration_place("params", key, table, _PARAM_KEYS)
            size = table.get("size")
            if size is not None and (type(size) is not int or not 1 <= size <= _MAX_SIZE):
                accepted = f"an integer from 1 to {_MAX_SIZE}, or no size for a scalar"
                self._file.refuse_value(joined(where, "size"), size, accepted)
            init = self._init(table, where, size)
            learnable = self._bool(table, where, "learnable", default=True)
            given = (key, size, init, learnable, table.get("per", "layer"))
            draw = None
            if "draw" in table:
                draw = draw_of(self._file, table["draw"], joined(where, "draw"), size)
            self._symbols[key] = self._file.with_source(param, *given, draw)

    def _declaration_place(self, group: str, key: str, table: Any, keys: tuple[str, ...]) -> str:
        """Validate the name and keys of one declaration; return its place."""
        where = joined(group, key)
        if not isinstance(table, dict):
            if key in _KEYS:
                self._file.require_keys({key: table}, group, ())
            self._file.refuse_value(where, table, f"a table, [{group}.name]")
        self._require_unused_name(group, key)
        self._file.require_keys(table, where, keys)
        return where

    def _require_unused_name(self, where: str, word: str) -> None:
        if word in FUNCTIONS or word in CONSTANTS:
            problem = f"{word!r} is a function or constant of the expression language"
            self._file.refuse(where, problem, remedy="Choose another name.")
        if word in self._symbols or word in self._spikes:
            problem = f"{word!r} is declared twice"
            self._file.refuse(where, problem, remedy="Rename one of them.")

    def _init(self, table: dict[str, Any], where: str, size: int | None) -> Any:
        init = table.get("init", 0.0)
        if isinstance(init, dict):
            return init_of(self._file, init, joined(where, "init"), size)
        is_list = isinstance(init, list)
        if is_number(init) or (is_list and len(init) == size and all(map(is_number, init))):
            return init
        accepted = "a finite number" if size is None else f"a finite number, or a list of {size}"
        remedy = "Give size too." if size is None and is_list else ""
        self._file.refuse_value(joined(where, "init"), init, accepted, remedy)

    def _declare_spikes(self) -> None:
        given = self._top.get("fire")
        for key in given if isinstance(given, dict) else () if given is None else ("spike",):
            self._require_unused_name("fire", key)
            self._spikes[key] = self._file.with_source(spike_named, key)

    def _bind(self) -> None:
        """Read `bound`: each value may read those before it, and spikes for reset and output."""
        for key, text in self._file.table("bound").items():
            self._require_unused_name("bound", key)
            names = {**self._symbols, **self._spikes}
            place = joined("bound", key)
            value = self._file.with_source(bind, self._parse(text, place, names), key)
            self._symbols[key] = value

    def _fire(self) -> dict[Declared, Any] | None:
        given = self._top.get("fire")
        if given is None:
            return None
        if not isinstance(given, dict):
            return {self._spikes["spike"]: self._parse(given, "fire", self._symbols)}
        parsed = self._expressions("fire", given, self._symbols)
        return {self._spikes[key]: expr for key, expr in parsed.items()}

    def _phase(self, key: str, names: _Names) -> dict[Declared, Any]:
        table = self._file.table(key)
        self._file.require_keys(table, key, self._states)
        parsed = self._expressions(key, table, names)
        return {self._states[name]: expr for name, expr in parsed.items()}

    def _output(self, names: _Names) -> Any:
        given = self._top.get("output")
        if isinstance(given, dict):
            return self._expressions("output", given, names)
        if given is not None:
            return self._parse(given, "output", names)
        if "spike" not in self._spikes:
            accepted = "an expression in quotes, or [output] with a key per output"
            self._file.refuse("output", "missing, and no spike is named 'spike'", accepted)
        return None

    def _expressions(self, where: str, texts: dict[str, Any], names: _Names) -> dict[str, Any]:
        return {key: self._parse(text, joined(where, key), names) for key, text in texts.items()}

    def _parse(self, text: Any, where: str, names: _Names) -> Any:
        if not isinstance(text, str):
            self._file.refuse_value(where, text, _EXPRESSION)
        hidden = {
            key: (
                f"{key!r} is a spike, which only reset and output may read",
                "To read the spike of the previous step, store it in a state:"
                f' [reset] s_prev = "{key}".',
            )
            for key in self._spikes
        }
        place = f"{self._file.source}: {where}"
        if where.partition(".")[0] == "fire":
            remedy = f"Write v - 1 for v > 1: {SPIKES_WHERE}."
            return parse(text, names, place, hidden, instead=remedy)
        return parse(text, names, place, hidden)


def _is_unread(given: Any) -> bool:
    """Report whether an item of `inputs` is {name = ..., read = false}."""
    return isinstance(given, dict) and given.keys() == {"name", "read"} and given["read"] is False
