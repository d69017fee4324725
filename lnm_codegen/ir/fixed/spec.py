"""Formats of the nodes of a fixed-point program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.ir.types import Fixed
from lnm_codegen.validation import wrong


@dataclass(frozen=True, slots=True)
class FixedSpec:
    """Formats by the names of nodes: states, inputs, prepared parameters and Lets.

    A state has one format before and after the step. `print(lnm.quantize(neuron, spec))` shows the
    names.

    Args:
        default: Format of constants and of every other node.
        nodes: Name -> format.

    Raises:
        ModelError: A format that is no `Fixed`.
    """

    default: Fixed
    nodes: tuple[tuple[str, Fixed], ...] = ()

    def __init__(
        self,
        default: Fixed,
        nodes: Mapping[str, Fixed] | tuple[tuple[str, Fixed], ...] = (),
    ) -> None:
        named = tuple(nodes.items()) if isinstance(nodes, Mapping) else tuple(nodes)
        for word, value in (("default", default), *named):
            if not isinstance(value, Fixed):
                raise wrong("FixedSpec", word, value, "a format, such as lnm.Fixed(16, 12)")
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "nodes", named)

    def __getitem__(self, name: str) -> Fixed:
        """Return the format of a node."""
        return dict(self.nodes).get(name, self.default)


def spec_of(spec: Fixed | FixedSpec, where: str) -> FixedSpec:
    """Return a `Fixed` or a `FixedSpec` as a `FixedSpec`; anything else is a ModelError."""
    if isinstance(spec, Fixed):
        return FixedSpec(spec)
    if not isinstance(spec, FixedSpec):
        raise wrong(where, "spec", spec, "lnm.Fixed(16, 12) or an lnm.FixedSpec")
    return spec
