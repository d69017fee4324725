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

import math
import os
import tomllib
from collections.abc import Callable, Iterable
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

from lnm_codegen.errors import ModelError
from lnm_codegen.expression import CONSTANTS, FUNCTIONS, MAX_EXPONENT, parse, shorten
from lnm_codegen.functions import did_you_mean
from lnm_codegen.neuron import Neuron
from lnm_codegen.surrogate import SURROGATES, Surrogate
from lnm_codegen.symbols import SCOPE, Declared, Scope, Vector, input, param, spike_named, state

MAX_BYTES = 65536
"""Size of the largest file that is read."""

_KEYS = (
    "name", "inputs", "fire", "output", "surrogate", "detach_reset",
    "states", "params", "charge", "reset",
)  # fmt: skip
_EXPRESSION = 'an expression in quotes, such as "v - 1"'
_NAME = 'a name in quotes, such as "my_lif"'
_MISSING = object()


def load(path: str | os.PathLike[str]) -> Neuron:
    """Return the neuron that a TOML file defines.

    Raises:
        ModelError: The file cannot be read, or its content is not a definition; one line that
            begins with the file and the key.
    """
    try:
        file = Path(path)
    except TypeError:
        raise ModelError(f"load: path is {path!r}. Accepted: the path of a TOML file.") from None
    return read(_text(file), str(file))


def read(text: str, source: str) -> Neuron:
    """Return the neuron that `text` defines; errors begin with `source`."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{source}: not valid TOML: {error}.") from None
    except (ValueError, RecursionError) as error:  # an integer of 5000 digits, nested arrays
        raise ModelError(f"{source}: not valid TOML: {type(error).__name__}, {error}.") from None
    return _Definition(source, content).neuron()


def _text(file: Path) -> str:
    try:
        if file.exists() and not file.is_file():
            what = "a directory" if file.is_dir() else "not a regular file"
            raise ModelError(f"{file}: {what}. Give the path of a TOML file.")
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except ModelError:
        raise
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file. Give the path of a TOML file.") from None
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}.") from None
    except ValueError as error:  # a null byte in the path
        raise ModelError(f"{str(file)!r}: not a path: {error}.") from None
    if len(data) > MAX_BYTES:
        raise ModelError(f"{file}: larger than {MAX_BYTES} bytes, the most that is read.")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{file}: not UTF-8 text (byte {error.start}). Save the file as UTF-8."
        ) from None


class _Definition:
    """The content of one file on its way to a `Neuron`."""

    def __init__(self, source: str, content: dict[str, Any]) -> None:
        self._source = source
        self._content = content
        self._states: dict[str, Declared] = {}
        self._spikes: dict[str, Declared] = {}
        self._symbols: dict[str, Declared | Vector] = {}

    def neuron(self) -> Neuron:
        """Read every key and build the neuron."""
        self._keys(self._content, "", _KEYS)
        name = self._get(self._content, "", "name", str, _NAME)
        if not name.isidentifier():
            self._refuse("name", f"{shorten(name)}. Accepted: an identifier.")
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
                "surrogate": self._surrogate(),
                "detach_reset": self._get(
                    self._content, "", "detach_reset", bool, "true or false", default=False
                ),
            }
            neuron: Neuron = self._located(Neuron, name=name, **fields)
            return neuron
        except RecursionError:
            self._refuse("", "an expression is nested too deeply. Split it up.")
        finally:
            SCOPE.reset(scope)

    def _refuse(self, where: str, what: str) -> NoReturn:
        raise ModelError(": ".join(filter(None, (self._source, where, what)))) from None

    def _located(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `make`, putting the file before its errors."""
        try:
            return make(*args, **kwargs)
        except ModelError as error:
            self._refuse("", str(error))

    def _keys(self, table: dict[str, Any], where: str, accepted: Iterable[str]) -> None:
        accepted = tuple(accepted)
        for key in table:
            if key in accepted:
                continue
            if where and key in _KEYS:
                hint = f" Write {key!r}, which belongs to no table, above the first [table] line."
            else:
                hint = did_you_mean(key, accepted)
            self._refuse(
                where,
                f"unknown key {shorten(key)}. Accepted: {', '.join(accepted) or 'none'}.{hint}",
            )

    def _get(
        self,
        table: dict[str, Any],
        where: str,
        key: str,
        kind: type,
        accepted: str,
        default: Any = _MISSING,
    ) -> Any:
        value = table.get(key, default)
        if value is _MISSING:
            self._refuse(_join(where, key), f"missing. Give {accepted}.")
        if value is not default and type(value) is not kind:
            self._refuse(_join(where, key), f"{shorten_value(value)}. Accepted: {accepted}.")
        return value

    def _table(self, key: str, default: Any = _MISSING) -> dict[str, Any]:
        default = {} if default is _MISSING else default
        accepted = f"a table, [{key}]"
        value: dict[str, Any] = self._get(self._content, "", key, dict, accepted, default)
        return value

    def _declare(self) -> None:
        for key, table in self._table("states").items():
            where = self._begin("states", key, table, ("init",))
            init = self._init(table, where, None)
            self._symbols[key] = self._states[key] = self._located(state, key, init)
        for key in self._inputs():
            self._check_word("inputs", key)
            self._symbols[key] = self._located(input, key)
        for key, table in self._table("params").items():
            where = self._begin("params", key, table, ("size", "init", "learnable", "per"))
            size = self._size(table, where)
            init = self._init(table, where, size)
            learnable = self._get(table, where, "learnable", bool, "true or false", default=True)
            per = table.get("per", "layer")
            self._symbols[key] = self._located(param, key, size, init, learnable, per)

    def _begin(self, group: str, key: str, table: Any, accepted: tuple[str, ...]) -> str:
        """Check one declaration's name and keys, and return where it stands."""
        if not isinstance(table, dict):
            if key in _KEYS:
                self._keys({key: table}, group, ())
            self._refuse(
                _join(group, key), f"{shorten_value(table)}. Accepted: a table, [{group}.name]."
            )
        self._check_word(group, key)
        where = _join(group, key)
        self._keys(table, where, accepted)
        return where

    def _check_word(self, where: str, word: str) -> None:
        if word in FUNCTIONS or word in CONSTANTS:
            self._refuse(where, f"{word!r} is a word of the expressions. Choose another name.")
        if word in self._symbols or word in self._spikes:
            self._refuse(where, f"{word!r} is declared twice. Rename one of them.")

    def _inputs(self) -> list[str]:
        names = self._content.get("inputs", [])
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            self._refuse(
                "inputs", f'{shorten_value(names)}. Accepted: a list of names, such as ["x"].'
            )
        return names

    def _size(self, table: dict[str, Any], where: str) -> int | None:
        size = table.get("size")
        if size is not None and (type(size) is not int or not 1 <= size <= MAX_EXPONENT + 1):
            self._refuse(
                _join(where, "size"),
                f"{shorten_value(size)}. Accepted: an integer from 1 to {MAX_EXPONENT + 1}, or no"
                " size for a scalar.",
            )
        return size

    def _init(self, table: dict[str, Any], where: str, size: int | None) -> Any:
        init = table.get("init", 0.0)
        if _is_number(init):
            return init
        if size is not None and isinstance(init, list) and len(init) == size:
            if all(_is_number(value) for value in init):
                return init
        wanted = "a finite number" if size is None else f"a finite number, or a list of {size}"
        hint = " A vector needs its size too." if size is None and isinstance(init, list) else ""
        self._refuse(_join(where, "init"), f"{shorten_value(init)}. Accepted: {wanted}.{hint}")

    def _fire(self) -> dict[Declared, Any] | None:
        given = self._content.get("fire")
        if given is None:
            return None
        texts = given if isinstance(given, dict) else {"spike": given}
        for key in texts:
            self._check_word("fire", key)
            self._spikes[key] = self._located(spike_named, key)
        single = not isinstance(given, dict)
        return {
            self._spikes[key]: self._parse(
                text, "fire" if single else _join("fire", key), self._symbols
            )
            for key, text in texts.items()
        }

    def _phase(self, key: str, names: dict[str, Declared | Vector]) -> dict[Declared, Any]:
        table = self._table(key)
        self._keys(table, key, self._states)
        return {
            self._states[name]: self._parse(text, _join(key, name), names)
            for name, text in table.items()
        }

    def _output(self, names: dict[str, Declared | Vector]) -> Any:
        given = self._content.get("output")
        if isinstance(given, dict):
            return {k: self._parse(text, _join("output", k), names) for k, text in given.items()}
        if given is not None:
            return self._parse(given, "output", names)
        if "spike" not in self._spikes:
            self._refuse(
                "output",
                "missing, and no spike is named 'spike'. Give an expression in quotes, or [output]"
                " with a key per output.",
            )
        return None

    def _parse(self, text: Any, where: str, names: dict[str, Declared | Vector]) -> Any:
        if not isinstance(text, str):
            self._refuse(where, f"{shorten_value(text)}. Accepted: {_EXPRESSION}.")
        hidden = {
            key: f"{key!r} is a spike, which only reset and output may read. To use the last"
            f' spike, keep it in a state: [reset] s_prev = "{key}".'
            for key in self._spikes
        }
        return parse(text, names, f"{self._source}: {where}", hidden)

    def _surrogate(self) -> Any:
        given = self._content.get("surrogate")
        if given is None:
            return None
        if not self._spikes:
            self._refuse("surrogate", "given, but nothing fires. Remove it, or give fire.")
        if not isinstance(given, dict) or not any(key in self._spikes for key in given):
            return self._one_surrogate(given, "surrogate")
        self._keys(given, "surrogate", self._spikes)
        for key in self._spikes:
            if key not in given:
                self._refuse(_join("surrogate", key), "missing. Give one for every spike.")
        return {
            self._spikes[key]: self._one_surrogate(value, _join("surrogate", key))
            for key, value in given.items()
        }

    def _one_surrogate(self, given: Any, where: str) -> Surrogate:
        table = {"kind": given} if isinstance(given, str) else given
        names = ", ".join(SURROGATES)
        if not isinstance(table, dict):
            self._refuse(where, f"{shorten_value(table)}. Accepted: {names}, or a table.")
        if not isinstance(given, str):
            where_kind = _join(where, "kind")
            kind = self._get(table, where, "kind", str, f"one of {names}")
        else:
            where_kind, kind = where, given
        if kind not in SURROGATES:
            self._refuse(
                where_kind,
                f"no surrogate {shorten(kind)}. Accepted: {names}.{did_you_mean(kind, SURROGATES)}",
            )
        make = SURROGATES[kind]
        self._keys(table, where, ("kind", *signature(make).parameters))
        numbers = {key: value for key, value in table.items() if key != "kind"}
        for key, value in numbers.items():
            if not _is_number(value):
                self._refuse(
                    _join(where, key), f"{shorten_value(value)}. Accepted: a finite number."
                )
        surrogate: Surrogate = self._located(make, **numbers)
        return surrogate


def shorten_value(value: Any) -> str:
    """Return a TOML value as one line says it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= 1000
    return type(value) is float and math.isfinite(value)


def _join(where: str, key: str) -> str:
    """Return `where.key`, the key in quotes where it is no bare key."""
    shown = key if key.isascii() and key.replace("-", "_").isidentifier() else shorten(key)
    return f"{where}.{shown}" if where else shown
