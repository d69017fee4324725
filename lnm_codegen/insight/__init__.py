"""What a trained network has learned: the dynamics of its neuron layers, and what they cost.

analyze_run(run)       everything, as data
classify(portrait)     the class of behaviour of one charge map
write_report(...)      one HTML page; `grid_figure` draws the charge of every layer
"""

from lnm_codegen.insight.analysis import LayerAnalysis as LayerAnalysis
from lnm_codegen.insight.analysis import RunAnalysis as RunAnalysis
from lnm_codegen.insight.analysis import analyze_run as analyze_run
from lnm_codegen.insight.classes import CLASSES as CLASSES
from lnm_codegen.insight.classes import Point as Point
from lnm_codegen.insight.classes import Portrait as Portrait
from lnm_codegen.insight.classes import classify as classify
