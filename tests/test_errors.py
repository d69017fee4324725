"""Whole messages, one of each part of the package, as examples of their shape.

`where: problem with the value. Accepted: what is accepted. Remedy.` Other tests match the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.cli import main
