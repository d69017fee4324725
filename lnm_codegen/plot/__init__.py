"""Plots of neurons: one line each, with axes of matplotlib in and out.

    step_response(neuron)      states under a constant input
    impulse_response(neuron)   states after an input in one step
    fi_curve(neuron)           firing rate over a constant input
    charge(neuron)             charged potential over the potential, with the diagonal
    phase_plane(neuron)        nullclines, trajectories and resets of two states
    poles(neuron)              eigenvalues in the unit disc

Each takes a neuron or a `NeuronLayer`, draws into `ax` or a new figure, and returns the axes. A
layer is drawn for all its parameter sets, or for the set `row`. A new figure has its legend below
the axes. Given axes have a small legend inside, or none if it would cover over 15 % of them. The
extra `train` installs matplotlib, which is imported when a function draws.
"""

from lnm_codegen.plot.charge import charge as charge
from lnm_codegen.plot.plane import phase_plane as phase_plane
from lnm_codegen.plot.poles import poles as poles
from lnm_codegen.plot.response import fi_curve as fi_curve
from lnm_codegen.plot.response import impulse_response as impulse_response
from lnm_codegen.plot.response import step_response as step_response
