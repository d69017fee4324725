"""What can be proven of a neuron's step, in rational arithmetic.

    ranges            the exact range of every node
    invariant         an interval that the states never leave, or inputs that drive them out
    is_invariant      whether given intervals are such
    keeps_potential   the same of a polynomial, decided exactly: for training
    fixed_points      where the charge leaves the potential as it is, and its slope there
    charge_spread     mean and deviation of a polynomial charge of a normal potential
    error_bounds      how far a fixed-point step may be from the exact one

Needs SymPy (roots of polynomials) and mpmath (exponentials); no PyTorch.
"""

from lnm_codegen.analysis.arithmetic.interval import Interval as Interval
from lnm_codegen.analysis.arithmetic.interval import integer_bits as integer_bits
from lnm_codegen.analysis.error import Decision as Decision
from lnm_codegen.analysis.error import ErrorBounds as ErrorBounds
from lnm_codegen.analysis.error import NodeError as NodeError
from lnm_codegen.analysis.error import error_bounds as error_bounds
from lnm_codegen.analysis.escape import Escape as Escape
from lnm_codegen.analysis.exact import prepared_parameters as prepared_parameters
from lnm_codegen.analysis.fixed_points import FixedPoint as FixedPoint
from lnm_codegen.analysis.fixed_points import FixedPoints as FixedPoints
from lnm_codegen.analysis.fixed_points import fixed_points as fixed_points
from lnm_codegen.analysis.invariant import Invariant as Invariant
from lnm_codegen.analysis.invariant import Undecided as Undecided
from lnm_codegen.analysis.invariant import invariant as invariant
from lnm_codegen.analysis.invariant import is_invariant as is_invariant
from lnm_codegen.analysis.moments import charge_spread as charge_spread
from lnm_codegen.analysis.ranges import ranges as ranges
from lnm_codegen.analysis.stability import keeps_potential as keeps_potential
