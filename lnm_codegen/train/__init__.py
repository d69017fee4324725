"""Training of spiking networks: data, networks, the training loop, runs, stability.

`api` has the public names. It loads PyTorch, so it is imported when one of them is first used:
`lnm train --help` reads the options of a run without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lnm_codegen.train.api import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        api = import_module(f"{__name__}.api")
        return globals()[name] if name in globals() else getattr(api, name)
