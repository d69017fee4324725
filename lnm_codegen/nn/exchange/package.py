"""The package `nir`, which an extra installs: import, and files."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnm_codegen.errors import ModelError, reason
from lnm_codegen.files import unreadable
from lnm_codegen.validation import require_package, wrong

if TYPE_CHECKING:
    import nir

_MOST_OBJECTS = 100_000
"""Bound on the groups and data of a file; a node has up to about ten."""
_WRITE = "Write the file with nir.write."


def nir_package(where: str) -> Any:
    """Return the module `nir`, or raise ToolError."""
    require_package(where, "nir", "nir", "nir")
    return importlib.import_module("nir")


def graph_of(where: str, graph: nir.NIRNode | str | os.PathLike[str]) -> nir.NIRGraph:
    """Return a graph, or that of a .nir file; a node becomes a graph of its own.

    Raises:
        ModelError: No graph; a file that cannot be read, or is no NIR file.
        ToolError: The package `nir` is not installed.
    """
    package = nir_package(where)
    if isinstance(graph, str | os.PathLike):
        return _read(package, Path(graph))
    if isinstance(graph, package.NIRGraph):
        return graph
    if not isinstance(graph, package.NIRNode):
        raise wrong(where, "graph", graph, "a nir.NIRGraph, or the path of a .nir file")
    ends = {"input": package.Input(dict(graph.input_type)), "node": graph}
    ends["output"] = package.Output({"output": None})
    edges = [("input", "node"), ("node", "output")]
    return package.NIRGraph(ends, edges, type_check=False)


def _read(package: Any, path: Path) -> nir.NIRGraph:
    try:
        with path.open("rb"):  # h5py's own message of a missing file has several lines
            pass
        _require_tree(path)
        graph = package.read(path, type_check=False)
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise unreadable(path, error) from None
    except AssertionError:  # nir asserts that it knows the class of a node, without a message
        found = sorted(_classes(path) - set(dir(package)))
        problem = f"a node of class {', '.join(found)}" if found else _misfit(package, path)
        raise ModelError(path, problem, "the nodes of NIR", _WRITE) from None
    except Exception as error:  # nir and h5py raise errors of many classes
        kind = f"not a NIR file: {type(error).__name__}: {reason(error)}"
        raise ModelError(path, kind, remedy=_WRITE) from None
    if not isinstance(graph, package.NIRGraph):
        kind = type(graph).__name__
        raise ModelError(path, f"it contains a {kind}", "a NIRGraph", _WRITE)
    return graph


def _require_tree(path: Path) -> None:
    """Raise ModelError unless each object of a file has one name and is in the file itself.

    `nir.read` follows every name: n groups with two names each would be 2**n nodes.
    """
    h5py = importlib.import_module("h5py")
    with h5py.File(path, "r") as file:
        seen = {h5py.h5o.get_info(file.id).addr}
        groups = [file]
        while groups:
            group = groups.pop()
            for name in group:
                place = f"{group.name.rstrip('/')}/{name}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ModelError(path, f"{place} is a link", "groups and data", _WRITE)
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    problem = f"{place} is another name of an object"
                    raise ModelError(path, problem, "one name for each", _WRITE)
                seen.add(address)
                if len(seen) > _MOST_OBJECTS:
                    problem = f"more than {_MOST_OBJECTS} groups and data"
                    raise ModelError(path, problem, remedy="Use fewer nodes.")
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                    raise ModelError(path, f"{place} is data of another file", remedy=_WRITE)


def _misfit(package: Any, path: Path) -> str:
    """Return what is wrong with a file whose nodes are of known classes."""
    with importlib.import_module("h5py").File(path, "r") as file:
        nodes = file.get("node/nodes", {})
        for name, node in nodes.items():
            try:
                package.serialization.read_node(node)
            except Exception:  # as in _read
                return f"node {name!r}: the shapes or types of its fields do not fit"
        return "the edges cannot be read" if len(nodes) else "not a NIR file"


def _classes(path: Path) -> set[str]:
    """Return the classes of the nodes of a file."""
    h5py, found = importlib.import_module("h5py"), set[str]()

    def visit(name: str, item: Any) -> None:
        if name.rpartition("/")[2] == "type" and isinstance(item, h5py.Dataset):
            value = item[()]
            found.add(value.decode() if isinstance(value, bytes) else str(value))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found
