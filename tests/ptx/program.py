"""The text of PTX as objects: `parse` returns the kernels of a module, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np


class UnknownPtx(Exception):
    """A statement, an instruction or an operand that the interpreter does not know."""


@dataclass(frozen=True)
class Type:
    """A type of PTX.

    Attributes:
        kind: `u`, `s`, `b`, `f`, `bf` (bfloat16) or `p` (a predicate).
        bits: Width; 1 of a predicate.
    """

    kind: str
    bits: int

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def dtype(self) -> np.dtype:
        """The NumPy type of values; bfloat16 has none and is held as its bits."""
        if self.kind == "p":
            return np.dtype(bool)
        return np.dtype(
            {"u": "u", "s": "i", "b": "u", "f": "f", "bf": "u"}[self.kind] + str(self.bytes)
        )

    @property
    def held(self) -> np.dtype:
        """The NumPy type in which a register holds it: unsigned, or bool."""
        return np.dtype(bool) if self.kind == "p" else np.dtype(f"u{self.bytes}")

    def __str__(self) -> str:
        return "pred" if self.kind == "p" else f"{self.kind}{self.bits}"


@cache
def type_of(word: str) -> Type:
    """Return the type that a word of an instruction names."""
    if word == "pred":
        return Type("p", 1)
    found = re.fullmatch(r"([usb]|f|bf)(8|16|32|64)", word)
    if not found:
        raise UnknownPtx(f"type {word}")
    return Type(found[1], int(found[2]))


@dataclass(frozen=True)
class Register:
    """A register: its index among those of the kernel, and its declared type."""

    name: str
    index: int
    type: Type


@dataclass(frozen=True)
class Immediate:
    """A number as bits; `floating` is the width of one written as a float, else 0."""

    bits: int
    floating: int = 0


@dataclass(frozen=True)
class Special:
    """A read-only register such as `%tid.x`."""

    name: str


@dataclass(frozen=True)
class Symbol:
    """The address of a variable in a space: shared, local, param, global."""

    name: str
    space: str
    address: int


@dataclass(frozen=True)
class Address:
    """`[base + offset]`."""

    base: Register | Symbol
    offset: int


@dataclass(frozen=True)
class Negated:
    """`!%p`."""

    register: Register


@dataclass(frozen=True)
class Parts:
    """`{a, b}`, or the two destinations of `p|q`; None for `_`."""

    items: tuple[Register | Immediate | None, ...]


@dataclass(frozen=True)
class Label:
    """The target of a branch: an index of an instruction."""

    name: str
    index: int


Operand: TypeAlias = (
    "Register | Immediate | Special | Symbol | Address | Negated | Parts | Label | None"
)


@dataclass(frozen=True, eq=False)
class Instruction:
    """One instruction.

    Attributes:
        name: The base opcode, such as `add`.
        words: What follows it, such as `("rn", "f32")`.
        operands: The operands, destination first.
        guard: The predicate that must hold, or None.
        sense: The value of the guard under which the instruction acts.
        text: The statement as it was written.
    """

    name: str
    words: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None
    sense: bool
    text: str

    @property
    def opcode(self) -> str:
        return ".".join((self.name, *self.words))

    @property
    def type(self) -> Type:
        """The last type among the words."""
        return type_of(self.words[-1])


@dataclass(frozen=True, eq=False, repr=False)
class Kernel:
    """A kernel.

    Attributes:
        name: Name of its entry.
        code: Its instructions; a branch names an index.
        registers: Types of its registers.
        params: Name of a parameter -> offset and size in bytes.
        shared: Bytes of shared memory whose size the text gives; dynamic memory follows.
        local: Bytes of local memory of a thread.
        tables: Name of a constant array in global memory -> its bytes.
        threads: Least and most threads of a block.
        module: The text of its module.
    """

    name: str
    code: tuple[Instruction, ...]
    registers: tuple[Type, ...]
    params: dict[str, tuple[int, int]]
    shared: int
    local: int
    tables: dict[str, np.ndarray]
    threads: tuple[int, int]
    module: str = field(default="", repr=False)

    @property
    def param_bytes(self) -> int:
        return max((offset + size for offset, size in self.params.values()), default=0)

    def where(self, name: str) -> list[int]:
        """Return the indices of the instructions with a base opcode."""
        return [k for k, instruction in enumerate(self.code) if instruction.name == name]

    def changed(self, index: int, instruction: Instruction) -> Kernel:
        """Return the kernel with another instruction at an index."""
        return replace(self, code=(*self.code[:index], instruction, *self.code[index + 1 :]))

    def without(self, index: int) -> Kernel:
        """Return the kernel with nothing in place of an instruction."""
        old = self.code[index]
        return self.changed(index, Instruction("nop", (), (), None, True, f"// {old.text}"))


@dataclass(frozen=True)
class _Function:
    """A device function: names of its results and parameters, and its body."""

    results: tuple[str, ...]
    params: tuple[str, ...]
    body: str


@lru_cache(maxsize=16)  # all that a session runs would be gigabytes
def parse(text: str) -> dict[str, Kernel]:
    """Return the kernels of a module; the body of a device function stands where it is called.

    Raises:
        UnknownPtx: A statement or an operand is not of the subset of PTX that is known.
    """
    module, text = text, re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*|^\s*\.(?:loc|file)\b[^\n]*", "", text, flags=re.MULTILINE)
    tables = {
        found[2]: _table(type_of(found[1]), found[3])
        for found in re.finditer(
            r"\.(?:global|const)\s+\.align\s+\d+\s+\.(\w+)\s+([\w$]+)\[\d+\]\s*=\s*\{(.*?)\};",
            text, re.DOTALL,
        )
    }  # fmt: skip
    functions = {
        found[2]: _Function(
            tuple(f[3] for f in _PARAM.finditer(found[1] or "")),
            tuple(f[3] for f in _PARAM.finditer(found[3])), _body(text, found.end() - 1)[1],
        )
        for found in re.finditer(
            r"\.func\s+(?:\(([^()]*)\)\s*)?([\w$]+)\s*\(([^()]*)\)\s*\{", text
        )
    }  # fmt: skip
    entries = list(re.finditer(r"\.entry\s+([\w$]+)\s*\((.*?)\)", text, re.DOTALL))
    outside = text[: entries[0].start()] if entries else text
    kernels = (
        _Reader(outside, tables, functions).kernel(entry[1], entry[2], *_body(text, entry.end()))
        for entry in entries
    )
    return {kernel.name: replace(kernel, module=module) for kernel in kernels}


def _table(kind: Type, numbers: str) -> np.ndarray:
    words = [int(number, 0) & ((1 << kind.bits) - 1) for number in numbers.split(",")]
    return np.array(words, Type("u", kind.bits).dtype).view(np.uint8)


def _body(text: str, start: int) -> tuple[str, str]:
    """Return what stands before the outer braces after a heading, and between them."""
    directives = text[start : text.index("{", start)]
    start = text.index("{", start) + 1
    depth, at = 1, start
    while depth:
        at += 1
        depth += {"{": 1, "}": -1}.get(text[at - 1], 0)
    return directives, text[start : at - 1]


_STATEMENT = re.compile(
    r"\s*(?:(?P<label>[\w$]+)\s*:|(?P<scope>[{}])|(?P<statement>[^{};:]+(?:\{[^{};]*\}[^{};]*)*);)"
)
_VARIABLE = re.compile(
    r"\.(shared|local|param)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)\s*(?:\[(\d*)\])?"
)
_PARAM = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.\w+(?:\s+\d+)?\s+)*)?([\w$]+)(?:\[(\d+)\])?"
)
_INSTRUCTION = re.compile(
    r"(?:@(!?)\s*(%[\w$]+)\s+)?([a-z]\w*)((?:\.\w+|::\w+)*)\s*(.*)", re.DOTALL
)
_CALL = re.compile(r"call(?:\.uni)?\s+(?:\(([^()]*)\)\s*,\s*)?([\w$]+)\s*(?:,\s*\(([^()]*)\)\s*)?")
_Scope: TypeAlias = dict[str, "Register | Symbol"]


class _Reader:
    """Reader of one kernel: declarations become indices, statements become instructions."""

    def __init__(
        self, outside: str, tables: dict[str, np.ndarray], functions: dict[str, _Function]
    ) -> None:
        self.tables, self.functions, self.calls = tables, functions, 0
        self.symbols = {name: Symbol(name, "global", 0) for name in tables}
        self.sizes = {"shared": 0, "local": 0}
        self.registers: list[Type] = []
        self.scopes: list[_Scope] = [{}]
        self.labels: dict[str, int] = {}
        self.params: dict[str, tuple[int, int]] = {}
        self.dynamic: list[str] = []
        for found in _VARIABLE.finditer(outside):
            if found[1] != "param":  # of a function
                self._variable(found)
        self.scopes.append(dict(self.scopes[0]))

    def kernel(self, name: str, params: str, directives: str, body: str) -> Kernel:
        least, most = 1, 1024
        for word, count in re.findall(r"\.(reqntid|maxntid)\s+(\d+)", directives):
            least, most = int(count) if word == "reqntid" else 1, int(count)
        offset = 0
        for text in filter(None, (p.strip() for p in params.split(","))):
            found = _PARAM.fullmatch(text)
            if not found:
                raise UnknownPtx(f"parameter {text!r}")
            size = type_of(found[2]).bytes
            offset = up(offset, int(found[1] or size))
            self.params[found[3]] = (offset, size * int(found[4] or 1))
            self.symbols[found[3]] = Symbol(found[3], "param", offset)
            offset += self.params[found[3]][1]
        statements = self._statements(body)
        for symbol in self.dynamic:  # dynamic shared memory comes last
            self.sizes["shared"] = up(self.sizes["shared"], 16)
            self.symbols[symbol] = Symbol(symbol, "shared", self.sizes["shared"])
        code = tuple(self._instruction(text, scope) for text, scope in statements)
        sizes = self.sizes
        return Kernel(
            name, code, tuple(self.registers), self.params, sizes["shared"], sizes["local"],
            self.tables, (least, most),
        )  # fmt: skip

    def _statements(self, body: str) -> list[tuple[str, _Scope]]:
        """Declare everything; return the instructions' texts with the names they see."""
        found: list[tuple[str, _Scope]] = []
        self._read(body, found)
        return found

    def _read(self, body: str, found: list[tuple[str, _Scope]]) -> None:
        at, end = 0, len(body.rstrip())
        while at < end:
            match = _STATEMENT.match(body, at)
            if not match:
                raise UnknownPtx(f"statement {body[at : at + 60].strip()!r}")
            at = match.end()
            if match["label"]:
                self.labels[match["label"]] = len(found)
            elif match["scope"] == "{":
                self.scopes.append(dict(self.scopes[-1]))
            elif match["scope"] == "}":
                self.scopes.pop()
            elif (text := match["statement"].strip()).startswith("."):
                self._declare(text)
            elif call := _CALL.fullmatch(text):
                self._inline(call, found)
            else:
                found.append((text, self.scopes[-1]))

    def _inline(self, call: re.Match[str], found: list[tuple[str, _Scope]]) -> None:
        """Read a function in place of its call, with registers, memory and labels of its own.

        Its parameters and results are the `.param` variables of the call, in local memory.
        """
        function, scope = self.functions.get(call[2]), self.scopes[-1]
        results, params = ([w.strip() for w in (g or "").split(",") if w] for g in call.group(1, 3))
        if function is None or any(word not in scope for word in (*results, *params)):
            raise UnknownPtx(f"{call[0]!r}")
        names = zip((*function.results, *function.params), (*results, *params), strict=True)
        self.scopes.append(self.scopes[0] | {own: scope[word] for own, word in names})
        self.calls += 1
        end, mark = f"$end_of_call_{self.calls}", f"$call_{self.calls}"
        body = re.sub(r"\$L[\w$]*", lambda label: label[0] + mark, function.body)
        self._read(re.sub(r"\bret(?:\.uni)?\s*;", f"bra {end};", body), found)
        self.labels[end] = len(found)
        self.scopes.pop()

    def _declare(self, text: str) -> None:
        if found := re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text, re.DOTALL):
            for name in found[2].split(","):
                several = re.fullmatch(r"\s*(%[\w$]+)<(\d+)>\s*", name)
                names = [f"{several[1]}{k}" for k in range(int(several[2]))] if several else [name]
                for word in names:
                    kind = type_of(found[1])
                    self.scopes[-1][word.strip()] = Register(
                        word.strip(), len(self.registers), kind
                    )
                    self.registers.append(kind)
        elif found := _VARIABLE.fullmatch(text):
            self._variable(found)
        elif not text.startswith(".pragma"):
            raise UnknownPtx(f"statement {text!r}")

    def _variable(self, found: re.Match[str]) -> None:
        space, align, kind, name, count = found.groups()
        size = type_of(kind).bytes
        if count == "":
            self.dynamic.append(name)
            return
        space = "local" if space == "param" else space  # of a call: a thread's own
        place = up(self.sizes[space], int(align or size))
        self.scopes[-1][name] = Symbol(name, space, place)
        self.sizes[space] = place + size * int(count or 1)

    def _instruction(self, text: str, scope: _Scope) -> Instruction:
        found = _INSTRUCTION.fullmatch(text)
        if not found:
            raise UnknownPtx(f"instruction {text!r}")
        negated, guard, name, words, rest = found.groups()
        try:
            operands = tuple(self._operand(word, scope) for word in _split(rest))
        except UnknownPtx as error:
            raise UnknownPtx(f"{error} in {text!r}") from None
        register = scope[guard] if guard else None
        parts = tuple(word for word in words.split(".") if word)
        return Instruction(name, parts, operands, register, not negated, " ".join(text.split()))

    def _operand(self, word: str, scope: _Scope) -> Operand:
        if word == "_":
            return None
        if word in scope:
            return scope[word]
        if word[0] == "!" and word[1:] in scope:
            return Negated(scope[word[1:]])
        if word[0] == "{":
            return Parts(tuple(self._operand(w, scope) for w in _split(word[1:-1])))  # type: ignore[misc]
        if word[0] == "[":
            base, offset = re.fullmatch(r"\[\s*([%\w$.]+)\s*(?:\+\s*(-?\w+))?\s*\]", word).groups()  # type: ignore[union-attr]
            return Address(self._operand(base, scope), int(offset or "0", 0))  # type: ignore[arg-type]
        if "|" in word:
            return Parts(tuple(self._operand(w, scope) for w in word.split("|")))  # type: ignore[misc]
        if word[0] == "%":
            return Special(word)
        if word in self.labels:
            return Label(word, self.labels[word])
        if word in self.symbols:
            return self.symbols[word]
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", word):
            return Immediate(int(word[2:], 16), 32)
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", word):
            return Immediate(int(word[2:], 16), 64)
        try:
            return Immediate(int(word.rstrip("U"), 0))
        except ValueError:
            raise UnknownPtx(f"operand {word!r}") from None


def up(number: int, multiple: int) -> int:
    """Return the least multiple that is not less than a number."""
    return -(-number // multiple) * multiple


def _split(text: str) -> Iterator[str]:
    """Yield what commas outside of braces separate."""
    for found in re.finditer(r"\s*((?:\{[^}]*\}|[^,{])+?)\s*(?:,|$)", text):
        yield found[1]
