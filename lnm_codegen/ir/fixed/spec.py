"""Which format every node of a fixed-point program has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.types import Fixed


@dataclass(frozen=True, slots=True)
class FixedSpec:
    """Formats by the names of nodes: states, inputs, prepared parameters and Lets.

    A node that is not named has the format `default`, constants too. A state has one format before
    and after the step. `print(lnm.quantize(neuron, spec))` shows the names.

    Args:
        default: A `Fixed`.
        nodes: Name -> `Fixed`.

    Raises:
        ModelError: Something that is no `Fixed`.
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
                raise ModelError(
                    "FixedSpec", f"{word} is {value!r}", "a format, such as lnm.Fixed(16, 12)"
                )
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "nodes", named)

    def __getitem__(self, name: str) -> Fixed:
        """Return the format of a node."""
        return dict(self.nodes).get(name, self.default)


def spec_of(spec: Fixed | FixedSpec, where: str) -> FixedSpec:
    """Return a `FixedSpec` for what a user gave.

    Raises:
        ModelError: Neither a `Fixed` nor a `FixedSpec`.
    """
    if isinstance(spec, Fixed):
        return FixedSpec(spec)
    if not isinstance(spec, FixedSpec):
        raise ModelError(where, f"spec is {spec!r}", "lnm.Fixed(16, 12) or an lnm.FixedSpec")
    return spec
