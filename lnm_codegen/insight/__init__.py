"""Insight into trained networks: dynamics of the neuron layers, figures, energy.

analyze_run(run)      the analysis of a run, as data
classify(portrait)    the class of behaviour of one charge map
"""

from lnm_codegen.insight.analysis import LayerAnalysis as LayerAnalysis
from lnm_codegen.insight.analysis import RunAnalysis as RunAnalysis
from lnm_codegen.insight.analysis import analyze_run as analyze_run
from lnm_codegen.insight.classes import CLASSES as CLASSES
from lnm_codegen.insight.classes import Point as Point
from lnm_codegen.insight.classes import Portrait as Portrait
from lnm_codegen.insight.classes import classify as classify
