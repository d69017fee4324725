"""Training of spiking networks: data, networks, the training loop, runs, stability.

`api` has the public names. It loads PyTorch, so it is imported when one of them is first used:
`lnm train --help` reads the options of a run without it.
"""

# ruff: noqa: F405 (the names of the star import are those of __all__, by a test)

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "MODELS", "Certificate", "ComparisonPlan", "ComparisonTable", "ConvNet", "Dataset", "Epoch",
    "Network", "Run", "RunResult", "RunSelection", "TrainConfig", "accuracy_figure", "build",
    "certificate", "charge_curve", "clamp_parameters", "compare", "curves_figure", "fit",
    "from_arrays", "from_datasets", "load", "load_run", "neurons_of", "plan_of", "project",
    "read_plan", "run", "slope_penalty", "unpadded",
]  # fmt: skip

if TYPE_CHECKING:
    from lnm_codegen.train.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        api = import_module(f"{__name__}.api")
        return globals()[name] if name in globals() else getattr(api, name)


def __dir__() -> list[str]:
    return __all__
