"""The sets a network can be trained on: `load` makes one, `DATASETS` names them all.

docs/data.md lists them, and what each needs. Nothing here opens a network connection, and nothing
in a file is executed.
"""

from lnm_codegen.train.data.dataset import Dataset as Dataset
from lnm_codegen.train.data.idx_sets import DEBIAN_FOLDER as DEBIAN_FOLDER
from lnm_codegen.train.data.load import DATASETS as DATASETS
from lnm_codegen.train.data.load import load as load
from lnm_codegen.train.data.split import Split as Split
