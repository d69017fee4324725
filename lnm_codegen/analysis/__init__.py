"""Proofs about a neuron's step, in rational arithmetic.

    ranges            exact range of every node
    invariant         intervals that the states never leave, or inputs that drive a state out
    is_invariant      decision for given intervals
    keeps_potential   the same decision for a polynomial charge, exact: for training
    fixed_points      potentials that the charge does not change, with the slope there
    charge_spread     mean and deviation of a polynomial charge of a normal potential
    error_bounds      bounds of the error of a fixed-point step

Needs SymPy (roots of polynomials) and mpmath (exponentials), not PyTorch.
"""

from lnm_codegen.analysis.error import Decision as Decision
from lnm_codegen.analysis.error import ErrorBounds as ErrorBounds
from lnm_codegen.analysis.error import NodeError as NodeError
from lnm_codegen.analysis.error import error_bounds as error_bounds
from lnm_codegen.analysis.exact import prepared_parameters as prepared_parameters
from lnm_codegen.analysis.fixed_points import FixedPoint as FixedPoint
from lnm_codegen.analysis.fixed_points import FixedPoints as FixedPoints
from lnm_codegen.analysis.fixed_points import fixed_points as fixed_points
from lnm_codegen.analysis.interval import Interval as Interval
from lnm_codegen.analysis.interval import integer_bits as integer_bits
from lnm_codegen.analysis.invariant import Escape as Escape
from lnm_codegen.analysis.invariant import Invariant as Invariant
from lnm_codegen.analysis.invariant import Undecided as Undecided
from lnm_codegen.analysis.invariant import invariant as invariant
from lnm_codegen.analysis.invariant import is_invariant as is_invariant
from lnm_codegen.analysis.polynomial_charge import charge_spread as charge_spread
from lnm_codegen.analysis.polynomial_charge import keeps_potential as keeps_potential
from lnm_codegen.analysis.ranges import ranges as ranges
