"""Reserved identifiers and uncalled functions of C, C++ and CUDA files, by their text.

C and C++ reserve identifiers with an underscore and a capital, and C++ those with two underscores,
anywhere. At file scope they reserve every identifier that begins with an underscore.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

GIVEN = re.compile(
    r"_mm\d*_\w+|__m\d+i?|__builtin_\w+|_Float16|__FLT16_MANT_DIG__|__AVX\w*__|__F16C__|__GNUC__"
    r"|__cplusplus|__attribute__|__CUDA\w+|__(?:device|global|shared|host|forceinline|constant)__"
    r"|__nv_bfloat16|__half|__launch_bounds__|__stwb|__syncthreads|__syncwarp|__restrict__|__shfl_\w+"
    r"|__[a-z0-9]+_as_[a-z0-9]+|__[a-z0-9]+2[a-z]+|__[fd](?:div|sqrt|add|mul|ma)_rn|_exit"
)
"""Names that a compiler or a system header declares, which generated code only uses."""
_PARENTHESES = r"\((?:[^()]|\([^()]*\))*\)"
_INTERNAL = re.compile(r"\bstatic\b|FUNCTION\b|SHARED\b|DEVICE\b")
EXTENSIONS = (".c", ".cpp", ".h", ".cu")


def code_of(text: str) -> str:
    """Return a file without comments and with empty strings; a line that continues is joined."""
    text = text.replace("\\\n", " ")
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    text = re.sub(r'extern "C"', "extern", text)
    return re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', '""', text)


def reserved(text: str) -> set[str]:
    """Return the reserved identifiers that a file declares or defines."""
    code = code_of(text)
    macros = set(re.findall(r"^\s*#\s*define\s+(\w+)", code, flags=re.M))
    words = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"^\s*#\s*include.*$", "", code, flags=re.M)))
    anywhere = {w for w in words if "__" in w or re.match("_[A-Z]", w)}
    outside = {w for w in _file_scope(code) | macros if w.startswith("_")}
    return {w for w in anywhere | outside if not GIVEN.fullmatch(w)}


def _file_scope(code: str) -> set[str]:
    """Return the words outside of braces and parentheses, namespaces and `extern` aside."""
    code = re.sub(r"^\s*#.*$", "", code, flags=re.M)
    found: set[str] = set()
    stack: list[bool] = []
    opens = re.compile(r"(?:namespace(?:\s+\w+)?|extern)\s*\{|[A-Za-z_]\w*|[{}()\[\]]")
    for match in opens.finditer(code):
        token = match[0]
        if token[-1] == "{":
            stack.append(len(token) == 1)
        elif token in "([":
            stack.append(True)
        elif token in "})]":
            stack.pop()
        elif not any(stack):
            found.add(token)
    return found


def uncalled(files: Mapping[str, str]) -> set[str]:
    """Return the functions with internal linkage that nothing calls.

    Those of a header count as called if another file of the folder names them.
    """
    codes = {path: code_of(text) for path, text in files.items() if path.endswith(EXTENSIONS)}
    whole = "\n".join(codes.values())
    found = set()
    for path, code in codes.items():
        defined = Counter(_internal_functions(code))
        words = Counter(re.findall(r"[A-Za-z_]\w*", whole if path.endswith(".h") else code))
        found |= {name for name, count in defined.items() if words[name] <= count}
    return found


def _internal_functions(code: str) -> list[str]:
    """Return the names of the functions that are static, or in a namespace without a name."""
    code = re.sub(r"^\s*#.*$", "", code, flags=re.M)
    found: list[str] = []
    stack: list[str] = []
    start = 0
    for match in re.finditer(r"namespace\s*\{|extern\s*\{|[{};]", code):
        token, head, start = match[0], code[start : match.start()], match.end()
        if token == "}":
            stack.pop()
        elif token != ";":
            if {*stack} <= {"namespace", "extern"}:
                name = re.search(rf"([A-Za-z_]\w*)\s*{_PARENTHESES}\s*(?:const)?\s*$", head)
                is_internal = "namespace" in stack or _INTERNAL.search(head)
                if name and is_internal and not re.search(r"__global__|\bextern\b", head):
                    found.append(name[1])
            stack.append(token.split("{")[0].strip() or "block")
    return found
