"""Data sets for training: `load` returns one, `DATASETS` names them all.

docs/data.md lists them with their files and packages. No code here opens a network connection or
executes the content of a file.
"""

from lnm_codegen.train.data.arrays import from_arrays as from_arrays
from lnm_codegen.train.data.dataset import Dataset as Dataset
from lnm_codegen.train.data.dataset import LabelledSplit as LabelledSplit
from lnm_codegen.train.data.dataset import Split as Split
from lnm_codegen.train.data.images import DEBIAN_FOLDER as DEBIAN_FOLDER
from lnm_codegen.train.data.load import load as load
from lnm_codegen.train.data.load import require_set_options as require_set_options
from lnm_codegen.train.data.own import from_datasets as from_datasets
from lnm_codegen.train.data.own import samples_of as samples_of
from lnm_codegen.train.names import DATASETS as DATASETS
