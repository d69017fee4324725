"""Conversions of tensors, `.to(...)`, `.type(...)` and `.type_as(...)`, as operations by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lnm_codegen.nn.trace.place import refusal
from lnm_codegen.validation import shown


def conversions(args: Sequence[Any], options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the operations of a call; a tensor among the arguments is given by its dtype.

    Raises:
        ModelError: A type of integers or of complex numbers.
    """
    flags = [a for a in args if isinstance(a, bool)]  # non_blocking, copy
    copies = options.get("copy", flags[1:] == [True])
    kinds = [a for a in (*args, *options.values()) if not isinstance(a, bool)]
    return (_type_of(kinds), "clone") if copies else (_type_of(kinds),)


def _type_of(kinds: Sequence[Any]) -> str:
    dtype = next((kind for kind in kinds if isinstance(kind, torch.dtype)), None)
    if dtype is torch.bool:
        return "bool"
    if dtype is None:
        names = (str(kind) for kind in kinds if not isinstance(kind, torch.device))
        is_device = not any("torch." in name for name in names)  # "torch.FloatTensor" is a type
        return "contiguous" if is_device else "float"
    if not dtype.is_floating_point:
        raise refusal(f"a conversion to {shown(dtype)}", "floating point or torch.bool")
    return "float" if dtype is torch.float32 else "double"
