"""Linear analysis of neurons with several states: poles, responses, classes.

    StepMap       the step without a spike, s -> F(s, x), and its Jacobian
    Modes         point, Jacobian, eigenvalues and class of each parameter set
    modes_of      these of a neuron or of the rows of a layer
    simulate      trajectories with spikes and resets

Numbers are float64 of NumPy. Nothing here is proven.
"""

from lnm_codegen.analysis.linear.modes import Modes as Modes
from lnm_codegen.analysis.linear.modes import Pole as Pole
from lnm_codegen.analysis.linear.modes import classify_poles as classify_poles
from lnm_codegen.analysis.linear.modes import eigenvalues as eigenvalues
from lnm_codegen.analysis.linear.modes import modes_of as modes_of
from lnm_codegen.analysis.linear.step import StepMap as StepMap
from lnm_codegen.analysis.linear.step import simulate as simulate
