"""Public names of `lnm_codegen.train`."""

from lnm_codegen.train.data import Dataset as Dataset
from lnm_codegen.train.data import from_arrays as from_arrays
from lnm_codegen.train.data import from_datasets as from_datasets
from lnm_codegen.train.data import load as load
from lnm_codegen.train.engine import Epoch as Epoch
from lnm_codegen.train.engine import fit as fit
from lnm_codegen.train.figure import curves_figure as curves_figure
from lnm_codegen.train.models import MODELS as MODELS
from lnm_codegen.train.models import Network as Network
from lnm_codegen.train.models import build as build
from lnm_codegen.train.models.conv import ConvNet as ConvNet
from lnm_codegen.train.runs.config import TrainConfig as TrainConfig
from lnm_codegen.train.runs.runner import RunResult as RunResult
from lnm_codegen.train.runs.runner import run as run
from lnm_codegen.train.runs.saved import Run as Run
from lnm_codegen.train.runs.saved import load_run as load_run
from lnm_codegen.train.stability.bounds import clamp_parameters as clamp_parameters
from lnm_codegen.train.stability.certificate import Certificate as Certificate
from lnm_codegen.train.stability.certificate import certificate as certificate
from lnm_codegen.train.stability.curve import charge_curve as charge_curve
from lnm_codegen.train.stability.penalty import slope_penalty as slope_penalty
from lnm_codegen.train.stability.projection import project as project
