"""Warnings that are shown once."""

from __future__ import annotations

import warnings

import pytest

from lnm_codegen.nn.load import warn


def test_a_warning_that_a_filter_raised_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error it interrupts the call, so a later call gives it again, and then never."""
    monkeypatch.setattr(warn, "_WARNED", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(RuntimeWarning, match="no compiler"):
                warn.warn_once("no compiler")
    with pytest.warns(RuntimeWarning, match="no compiler"):
        warn.warn_once("no compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn.warn_once("no compiler")
