"""`ConvNet` and `parameter_groups` under the name they had; `models` is where they are."""

from lnm_codegen.train.models.base import parameter_groups as parameter_groups
from lnm_codegen.train.models.conv import Block as Block
from lnm_codegen.train.models.conv import ConvNet as ConvNet
