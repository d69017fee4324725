"""Search of small word lengths that reach a target.

Integer bits follow from the range of each node. Fraction bits are searched in two stages:

1. One number of fraction bits for all nodes, the least that reaches the target.
2. Each node in turn, the widest first, loses bits while the target holds.

Candidates are simulated; every run begins from the same state in both arithmetics (`sample.py`).
If the target is an error and ranges are proven, the error bound of `analysis` decides, and
simulation confirms it.

An error is that of one step from the same state, where every comparison agrees (`StepErrors`).
Where one differs, as at a threshold, a value may jump. The target also bounds the margin: a
comparison differs only where its operands differ by at most the margin.

No candidate may round to 0 a number that the neuron needs (`compiler/lost.py`): the error of one
step, and the mismatch of short runs, miss the loss of a slow input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from lnm_codegen.analysis.interval import Interval, hull, integer_bits
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import InternalError, ModelError, UnsupportedError
from lnm_codegen.hardware.wordlength.sample import Observed, Sample, StepErrors, observed
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.quantize import WIDE, node_names, quantize
from lnm_codegen.ir.kernel import Phase, Role
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import RoundingName, SchemeName
from lnm_codegen.validation import require_number

Bounds = Callable[[fx.Program], StepErrors]
"""Program -> proven largest errors of a step."""


@dataclass(frozen=True, slots=True)
class PrecisionTarget:
    """Target of a search: either an error or a mismatch, or ModelError is raised.

    The error is that of `StepErrors`.
    """

    error: float | None = None  # largest, of a state after a step or an operand of a spike
    mismatch: float | None = None  # largest share of spikes that differ

    def __post_init__(self) -> None:
        """Validate the target."""
        if (self.error is None) == (self.mismatch is None):
            given = "are both None" if self.error is None else "are both given"
            raise ModelError("quantize", f"error and mismatch {given}", "one of them")
        require_number("quantize", "error", self.error, low=0, below=1e9, optional=True)
        require_number("quantize", "mismatch", self.mismatch, low=0, below=1, optional=True)

    def __str__(self) -> str:
        if self.error is not None:
            return f"error of a state after a step <= {self.error:g}"
        return f"spike mismatch <= {self.mismatch:g}"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of a search: rounding of every format, "horner" or "estrin", largest width."""

    rounding: RoundingName = "half_up"
    scheme: SchemeName = "horner"
    most: int = 32


DEFAULTS = SearchOptions()


@dataclass(frozen=True, slots=True)
class NodeFormat:
    """Format of a node."""

    name: str  # as in `quantize`
    range: Interval  # of its exact value
    fixed: Fixed
    bound: float | None  # proven error where comparisons agree; None for recorded ranges
    observed: float  # largest error on the sample
    saturated: float  # share of the sample's steps in which its exact value is outside its format


@dataclass(frozen=True, slots=True)
class WordLengths:
    """Result of a search."""

    spec: FixedSpec
    program: fx.Program
    nodes: tuple[NodeFormat, ...]
    target: PrecisionTarget
    proven: bool  # ranges and `error` are proven; otherwise they are those of the sample
    error: (
        float  # largest of a state, an output or an operand of a spike's comparison; inf: unbounded
    )
    observed: float  # the same error on the sample
    margin: float  # a comparison may differ where its operands differ by at most this
    differing: float | None  # share of the sample's steps in which a comparison differs
    mismatch: float  # on the sample, as in `Observed`

    @property
    def total(self) -> int:
        """Sum of the widths of all nodes."""
        return sum(node.fixed.width for node in self.nodes)


class FormatSearch:
    """Search of word lengths that reach a target and need each of their fraction bits.

    Candidates run on the sample. `ranges` maps a node to the interval of its exact value, which is
    recorded, or proven with `bounds`.
    """

    def __init__(
        self,
        neuron: Neuron,
        sample: Sample,
        target: PrecisionTarget,
        ranges: Mapping[str, Interval],
        *,
        bounds: Bounds | None = None,
        options: SearchOptions = DEFAULTS,
    ) -> None:
        self._program = lower(neuron, options.scheme)
        self._sample, self._target, self._bounds = sample, target, bounds
        self._rounding, self._most = options.rounding, options.most
        kernel = quantize(self._program, WIDE).kernel
        self._ranges = {name: _range(name, ranges) for name in node_names(self._program)}
        self._constants = _constants(self._program.forward)
        self._limits = _limits(kernel, self._ranges)
        self._watched = [f"{v.name}_next" for v in kernel.input_vars(Role.STATE)]
        self._watched += _compared(kernel)
        numbers = (v for v in kernel.result_vars(Role.OUTPUT) if isinstance(v.type, Bits))
        self._watched += [v.name for v in numbers if v.name in self._ranges]
        self._tried: dict[tuple[int, ...], bool] = {}

    def result(self) -> WordLengths:
        """Return the word lengths, or raise ModelError if no format reaches the target."""
        fracs = self._shrunk(self._uniform())
        spec = self._spec(fracs)
        program = quantize(self._program, spec)
        proven = self._proven(program)
        found = self._observed(program)
        _confirm(program.name, found, proven, self._target)
        bounds, step = proven.errors if proven else {}, proven or found
        nodes = tuple(
            NodeFormat(n, r, spec[n], bounds.get(n), found.errors[n], found.saturated[n])
            for n, r in self._ranges.items()
        )
        return WordLengths(
            spec=spec,
            program=program,
            nodes=nodes,
            target=self._target,
            proven=proven is not None,
            error=step.largest(self._watched),
            observed=found.largest(self._watched),
            margin=step.margin,
            differing=found.differing,
            mismatch=found.mismatch,
        )

    def _uniform(self) -> dict[str, int]:
        """Return the least number of fraction bits, the same for every node."""
        for frac in range(self._most):
            fracs = dict.fromkeys(self._ranges, frac)
            if self._fits(fracs) and self._meets(fracs):
                return fracs
        raise ModelError(
            self._program.name,
            f"no format of at most {self._most} bits reaches {self._target}",
            remedy="Allow more bits, or narrow the range of the input.",
        )

    def _shrunk(self, fracs: dict[str, int]) -> dict[str, int]:
        """Return `fracs` without the bits that the target does not need."""
        changed = True
        while changed:  # a mismatch is not monotone: a rejected format may pass later
            changed = False
            for name in sorted(fracs, key=lambda n: (-self._fixed(n, fracs[n]).width, n)):
                while fracs[name] > 0:
                    fewer = fracs | {name: fracs[name] - 1}
                    if not (self._fits(fewer) and self._meets(fewer)):
                        break
                    fracs, changed = fewer, True
        return fracs

    def _meets(self, fracs: dict[str, int]) -> bool:
        key = tuple(fracs.values())
        if key not in self._tried:
            program = self._quantized(fracs)
            self._tried[key] = program is not None and self._reaches(program)
        return self._tried[key]

    def _quantized(self, fracs: Mapping[str, int]) -> fx.Program | None:
        """Return a candidate; None if an exact intermediate of it is too wide."""
        try:
            return quantize(self._program, self._spec(fracs))
        except UnsupportedError:  # of its formats: `WIDE` has a program
            return None

    def _reaches(self, program: fx.Program) -> bool:
        target = self._target
        if target.error is None:
            reached = self._observed(program).mismatch <= (target.mismatch or 0.0)
        else:
            step = self._proven(program) or self._observed(program)
            reached = max(step.largest(self._watched), step.margin) <= target.error
        return reached and self._sample.keeps(program)

    def _observed(self, program: fx.Program) -> Observed:
        """Simulate a candidate or the result alike: from rounded states if ranges are proven."""
        return observed(program, self._sample, on_grid=self._bounds is not None)

    def _proven(self, program: fx.Program) -> StepErrors | None:
        return self._bounds(program) if self._bounds else None

    def _fits(self, fracs: dict[str, int]) -> bool:
        widths = [self._whole(n, frac) + frac for n, frac in fracs.items()]
        return max(widths, default=0) <= self._most

    def _fixed(self, name: str, frac: int) -> Fixed:
        return Fixed(max(self._whole(name, frac) + frac, 2), frac, self._rounding)

    def _whole(self, name: str, frac: int) -> int:
        """Return the integer bits that hold the range of a node and the constants of its Let."""
        whole = integer_bits(self._ranges[name], frac)
        for value in self._constants.get(name, ()):
            while not Bits(max(whole + frac, 2), frac).holds(Bits(2, frac).nearest(value)):
                whole += 1
        return whole

    def _spec(self, fracs: Mapping[str, int]) -> FixedSpec:
        """Return the formats of nodes, and a default that holds the limits of comparisons."""
        nodes = {name: self._fixed(name, frac) for name, frac in fracs.items()}
        whole = max(f.width - f.frac for f in nodes.values())
        whole = max(whole, integer_bits(self._limits, 0))
        frac = min(max(fracs.values()), 32 - whole)
        return FixedSpec(Fixed(max(whole + frac, 2), frac, self._rounding), nodes)


def _constants(kernel: ir.Kernel) -> dict[str, list[Fraction]]:
    """Return node -> the constants of its Lets, which have its format."""
    found: dict[str, list[Fraction]] = {}
    after = {f"{v.name}_next": v.name for v in kernel.input_vars(Role.STATE)}
    for let in kernel.body:
        name = after.get(let.target.name, let.target.name)
        own = [e.value for e in ir.walk(let.value) if isinstance(e, ir.Const)]
        found[name] = found.get(name, []) + own
    return found


def _limits(kernel: fx.Kernel, nodes: Mapping[str, Interval]) -> Interval:
    """Return the range of the constants that have the default format: those of comparisons."""
    after = {f"{v.name}_next" for v in kernel.input_vars(Role.STATE)}
    lets = (let for let in kernel.body if let.target.name not in {*nodes, *after})
    found = [e.real for let in lets for e in fx.walk(let.value) if isinstance(e, fx.Const)]
    return Interval(min(found, default=Fraction(0)), max(found, default=Fraction(0)))


def _compared(kernel: fx.Kernel) -> list[str]:
    """Return the operands of a spike's comparison: their error acts as one of the threshold."""
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
    """Return the range of a node; for a state, before and after the step."""
    found = [ranges[n] for n in (name, f"{name}_next") if n in ranges]
    if not found:
        raise InternalError("quantize", f"no range of {name!r}")
    return hull(found)


def _confirm(
    name: str, found: Observed, proven: StepErrors | None, target: PrecisionTarget
) -> None:
    """Raise InternalError where the simulation contradicts a proven bound, or misses the target."""
    if target.mismatch is not None and found.mismatch > target.mismatch:
        raise InternalError(name, f"the mismatch is {found.mismatch:g}, beyond {target}")
    for node, bound in (proven.errors if proven else {}).items():
        if node in found.errors and found.errors[node] > bound * (1 + 1e-9):
            error = f"the error of {node!r} is {found.errors[node]:g}"
            raise InternalError(name, f"{error}, beyond its proven bound {bound:g}")
