"""Insight into trained networks: dynamics of the neuron layers, figures, energy.

analyze(module, batches)    the analysis of a network of your own, as data
analyze_run(run)            the same of a training run
classify(portrait)          the class of behaviour of one charge map
"""

from lnm_codegen.insight.analysis import NetworkAnalysis as NetworkAnalysis
from lnm_codegen.insight.analysis import RunAnalysis as RunAnalysis
from lnm_codegen.insight.analysis import analyze as analyze
from lnm_codegen.insight.analysis import analyze_run as analyze_run
from lnm_codegen.insight.layer import CLASSES as CLASSES
from lnm_codegen.insight.layer import LayerAnalysis as LayerAnalysis
from lnm_codegen.insight.layer import Point as Point
from lnm_codegen.insight.layer import Portrait as Portrait
from lnm_codegen.insight.layer import classify as classify
