"""Summary of two networks in fixed point."""

from __future__ import annotations

from dataclasses import replace

import lnm_codegen as lnm
from lnm_codegen.deploy.arrays import arrays_of
from lnm_codegen.deploy.comparison import network_report
from lnm_codegen.deploy.mismatch import measure_mismatch, specs_for
from lnm_codegen.hardware.synth import DEVICES, Measured, Resources
from lnm_codegen.insight.page.comparison import FixedComparison, comparison_summary
from lnm_codegen.train.losses import count_correct
from tests.deploy.test_network import images, small


def test_the_luts_of_a_layer_of_several_arrays_are_summed() -> None:
    """Three arrays of 100 LUT hold the layer; the sum counted one of them."""
    network = small(lnm.get("lif", tau=3.0))
    specs = specs_for(network, lnm.Fixed(16, 12))
    (array,) = arrays_of(network, specs, images())
    mismatch = measure_mismatch(
        network, specs, [(images(), images(8)[:, 0, 0, 0].long() % 3)], count_correct
    )
    measured = Measured(None, DEVICES["25k"], Resources(100, 0, 0, 0), {}, {1: 200.0}, 1.0)  # type: ignore[arg-type]
    made = network_report(network, mismatch, [replace(array, copies=3)], {"neuron": measured})
    found = FixedComparison(("a", "b"), (made, made), "digits", "16.12", "a chip", None)
    circuit = dict(comparison_summary(found))["Circuit"]
    assert circuit.startswith("300 against 300 LUT in all arrays, on a chip; "), circuit


def test_predictions_of_one_sample_have_no_interval() -> None:
    """One for each time step: they depend on each other, as in `lnm analyze`."""
    network = small(lnm.get("lif", tau=3.0))
    specs = specs_for(network, lnm.Fixed(16, 12))
    labels = images(8)[:, 0, 0, 0].long() % 3
    found = measure_mismatch(network, specs, [(images(), labels)], count_correct)
    texts = []
    for predictions in (found.images, 4 * found.images):
        own = replace(found, predictions=predictions)
        made = network_report(network, own, arrays_of(network, specs, images()), {})
        both = FixedComparison(("a", "b"), (made, made), "digits", "16.12", "a chip", "none")
        texts.append(dict(comparison_summary(both))["Accuracy in fixed point"])
    assert texts[0].count("(95 % interval ") == 2
    assert "interval" not in texts[1]
    assert texts[1].count(f"({4 * found.images} predictions; float ") == 2
