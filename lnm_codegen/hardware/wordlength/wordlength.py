"""The least word lengths that meet a target.

Integer bits follow from the range of each node, fraction bits from a search: first one number of
fraction bits for all nodes, the least that meets the target; then each node in turn, the widest
first, gives up bits while the target holds. What is tried is tried by simulation, every step from
the same state in both arithmetics (`sample.py`); where a target is an error, and ranges are proven,
the bound of `analysis` decides, and simulation confirms it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lnm_codegen.analysis.arithmetic.interval import Interval, hull, integer_bits
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.hardware.wordlength.sample import Observed, Sample, observed
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.quantize import quantize
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.operators import Phase, Role
from lnm_codegen.ir.types import Bits, Fixed
from lnm_codegen.language.neuron import Neuron

MOST_WIDTH = 32
_WIDE = FixedSpec(Fixed(30, 0))  # names the nodes; holds any constant up to 2**29

Bounds = Callable[[fx.Program], Mapping[str, float]]
"""Program -> the largest error of each node, proven."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a word length must reach.

    Attributes:
        error: The largest error, absolute, of a state after one step and of what decides a spike;
            None for no such target.
        mismatch: The largest share of steps in which a spike differs; None for no such target.
    """

    error: float | None = None
    mismatch: float | None = None

    def __post_init__(self) -> None:
        """Check that there is one, and that it can be met."""
        if (self.error is None) == (self.mismatch is None):
            raise ModelError("quantize", "give one target, an error or a mismatch")
        word, value = ("mismatch", self.mismatch) if self.error is None else ("error", self.error)
        if not (isinstance(value, int | float) and 0 <= value < (1 if word == "mismatch" else 1e9)):
            accepted = "0 <= mismatch < 1" if word == "mismatch" else "a number > 0"
            raise ModelError("quantize", f"{word} is {value!r}", accepted)

    def __str__(self) -> str:
        if self.error is not None:
            return f"error of a state after a step <= {self.error:g}"
        return f"spike mismatch per step <= {self.mismatch:g}"


@dataclass(frozen=True, slots=True)
class NodeFormat:
    """A node of the result.

    Attributes:
        name: As `quantize` names it.
        range: Of its exact value.
        fixed: Its format.
        bound: The proven error, None where ranges were recorded.
        observed: The largest error on the sample.
        saturated: Share of the sample's steps in which its exact value is outside its format.
    """

    name: str
    range: Interval
    fixed: Fixed
    bound: float | None
    observed: float
    saturated: float


@dataclass(frozen=True, slots=True)
class WordLengths:
    """What `choose` found: the spec, its nodes, the sum of their widths, what it reaches."""

    spec: FixedSpec
    program: fx.Program
    nodes: tuple[NodeFormat, ...]
    target: Target
    proven: bool
    error: float
    mismatch: float

    @property
    def total(self) -> int:
        """The sum of the widths of all nodes."""
        return sum(node.fixed.width for node in self.nodes)


def choose(
    neuron: Neuron,
    sample: Sample,
    target: Target,
    ranges: Mapping[str, Interval],
    *,
    bounds: Bounds | None = None,
    rounding: str = "half_up",
    scheme: str = "horner",
    most: int = MOST_WIDTH,
) -> WordLengths:
    """Search the least total width that meets a target.

    Args:
        neuron: The definition.
        sample: Steps to try it on.
        target: An error or a mismatch.
        ranges: Node -> the interval of its exact value, proven or recorded.
        bounds: The proven error of each node, where `ranges` is proven.
        rounding: Of every format.
        scheme: "horner" or "estrin".
        most: No node is wider.

    Raises:
        ModelError: No format of at most `most` bits meets the target.
    """
    search = _Search(neuron, sample, target, dict(ranges), bounds, rounding, scheme, most)
    return search.result(search.shrunk(search.uniform()))


class _Search:
    def __init__(
        self,
        neuron: Neuron,
        sample: Sample,
        target: Target,
        ranges: dict[str, Interval],
        bounds: Bounds | None,
        rounding: str,
        scheme: str,
        most: int,
    ) -> None:
        self._program = lower(neuron, scheme)
        self._sample, self._target, self._bounds = sample, target, bounds
        self._rounding, self._most = rounding, most
        kernel = quantize(self._program, _WIDE).kernel
        self._ranges = {name: _range(name, ranges) for name in _nodes(kernel)}
        self._watched = [f"{v.name}_next" for v in kernel.input_vars(Role.STATE)]
        self._watched += _compared(kernel)
        self._tried: dict[tuple[int, ...], bool] = {}

    def uniform(self) -> dict[str, int]:
        """Return the least number of fraction bits, the same for every node."""
        for frac in range(self._most):
            fracs = dict.fromkeys(self._ranges, frac)
            if self._fits(fracs) and self._meets(fracs):
                return fracs
        raise ModelError(
            self._program.name,
            f"no format of at most {self._most} bits reaches: {self._target}",
            remedy="Allow more, or narrow the range of the input.",
        )

    def shrunk(self, fracs: dict[str, int]) -> dict[str, int]:
        """Return `fracs` with the bits taken away that the target can do without."""
        changed = True
        while changed:  # a mismatch is not monotone: what was refused may do later
            changed = False
            for name in sorted(fracs, key=lambda n: (-self._fixed(n, fracs[n]).width, n)):
                while fracs[name] > 0:
                    fewer = fracs | {name: fracs[name] - 1}
                    if not (self._fits(fewer) and self._meets(fewer)):
                        break
                    fracs, changed = fewer, True
        return fracs

    def result(self, fracs: dict[str, int]) -> WordLengths:
        spec = self._spec(fracs)
        program = quantize(self._program, spec)
        proven = self._proven(program)
        found = observed(program, self._sample, on_grid=proven is not None)
        _confirm(program.name, found, proven)
        nodes = tuple(
            NodeFormat(
                name,
                self._ranges[name],
                spec[name],
                proven.get(name) if proven else None,
                found.errors[name],
                found.saturated[name],
            )
            for name in self._ranges
        )
        error = max((found.errors[n] for n in self._watched), default=0.0)
        if proven:
            error = max((proven[n] for n in self._watched), default=0.0)
        return WordLengths(
            spec, program, nodes, self._target, proven is not None, error, found.mismatch
        )

    def _meets(self, fracs: dict[str, int]) -> bool:
        key = tuple(fracs.values())
        if key not in self._tried:
            program = quantize(self._program, self._spec(fracs))
            self._tried[key] = self._reaches(program)
        return self._tried[key]

    def _reaches(self, program: fx.Program) -> bool:
        target = self._target
        if target.error is None:
            return observed(program, self._sample).mismatch <= (target.mismatch or 0.0)
        errors = self._proven(program) or observed(program, self._sample).errors
        return all(errors[name] <= target.error for name in self._watched)

    def _proven(self, program: fx.Program) -> Mapping[str, float] | None:
        return self._bounds(program) if self._bounds else None

    def _fits(self, fracs: dict[str, int]) -> bool:
        widths = [integer_bits(self._ranges[n], frac) + frac for n, frac in fracs.items()]
        return max(widths, default=0) <= self._most

    def _fixed(self, name: str, frac: int) -> Fixed:
        whole = max(integer_bits(self._ranges[name], frac), 1)
        return Fixed(max(whole + frac, 2), frac, self._rounding)

    def _spec(self, fracs: dict[str, int]) -> FixedSpec:
        nodes = {name: self._fixed(name, frac) for name, frac in fracs.items()}
        whole = max(f.width - f.frac for f in nodes.values())
        frac = min(max(fracs.values()), 32 - whole)
        return FixedSpec(Fixed(max(whole + frac, 2), frac, self._rounding), nodes)


def _nodes(kernel: fx.Kernel) -> list[str]:
    """Return the nodes that have a format of their own: no states after the step, no exact ones."""
    after = {f"{v.name}_next" for v in kernel.input_vars(Role.STATE)}
    names = [p.var.name for p in kernel.inputs if isinstance(p.var.type, Bits)]
    wide = _WIDE.default.bits
    return names + [
        let.target.name
        for let in kernel.body
        if let.target.type == wide and let.target.name not in after
    ]


def _compared(kernel: fx.Kernel) -> list[str]:
    """Return what decides a spike: its error is as good as one of the threshold."""
    found = {
        var.name
        for let in kernel.body
        if let.phase is Phase.FIRE
        for node in fx.walk(let.value)
        if isinstance(node, fx.Compare)
        for var in fx.variables(node)
    }
    return sorted(found - {p.var.name for p in kernel.inputs})


def _range(name: str, ranges: Mapping[str, Interval]) -> Interval:
    """Return the range of a node; of a state before and after the step."""
    found = [ranges[n] for n in (name, f"{name}_next") if n in ranges]
    if not found:
        raise InternalError("quantize", f"no range of {name!r}")
    return hull(found)


def _confirm(name: str, found: Observed, proven: Mapping[str, float] | None) -> None:
    """Raise InternalError where simulation contradicts a proven bound."""
    for node, bound in (proven or {}).items():
        if node in found.errors and found.errors[node] > bound * (1 + 1e-9):
            raise InternalError(
                name,
                (
                    f"the error of {node!r} is {found.errors[node]:g}, beyond its proven bound "
                    f"{bound:g}"
                ),
            )
