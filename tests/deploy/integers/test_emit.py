"""Source of a network in integers, without a run and without the command."""

from __future__ import annotations

import re

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.deploy.integers.convert import default_network, integer_samples
from lnm_codegen.deploy.integers.emit import NetworkTarget, emit_integers, formats_text
from lnm_codegen.deploy.integers.real import WeightFormat
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import IntegerNetwork
from lnm_codegen.ir.types import FixedSpec
from tests.deploy.integers.runs import chained, images, real
from tests.refusals import assert_refused


def scores_of(files: dict[str, str | bytes], network: IntegerNetwork) -> np.ndarray:
    """Return the expected scores of the example in C, (samples, classes)."""
    text = str(files[f"{network.name}_vectors.h"])
    body = re.search(r"sample_scores\[\d+\]\[\d+\] = \{(.*?)\};", text, re.S)[1]
    return np.array(re.findall(r"-?\d+", body), int).reshape(-1, network.classes)


def test_a_network_without_a_run() -> None:
    """The folder is complete, and its README has the sections that are given."""
    network = default_network(real(chained()), images(), WeightFormat(6))
    emitted = emit_integers(network, images(), NetworkTarget("c", vectors=3))
    files = emitted.files(["## More\n"], {"input.json": "{}"})
    assert {"net.c", "network.json", "network.npz", "input.json"} <= files.keys()
    readme = str(files["README.md"])
    assert readme.index("\n## More\n") < readme.index("\n## Build and run\n")
    assert all(f"| `{name}` |" in readme for name in ("network.json", "network.npz", "input.json"))
    assert "run.json" not in readme
    found = interpret_network(network, integer_samples(network, images()[:3].numpy()))
    np.testing.assert_array_equal(scores_of(files, network), found.scores)


def test_the_formats_of_nodes_are_named() -> None:
    """The README named the default alone, although nodes had other formats and roundings."""
    whole = real(chained())
    plain, cut = lnm.Fixed(24, 12), lnm.Fixed(12, 2, "truncate")
    nodes = {"v": lnm.Fixed(24, 16, "truncate"), "x": cut, "h": lnm.Fixed(20, 12, "truncate")}
    specs = {stage.name: FixedSpec(plain, {"v": plain}) for stage in whole.neurons}
    specs["first"] = FixedSpec(cut, nodes)
    text = formats_text(default_network(whole, images(), WeightFormat(6), specs))
    assert "; `first` Q10.2 truncate (v Q8.16, h Q8.12); " in text
    assert "; `second` Q12.12; " in text


def test_options_that_do_not_apply_are_refused() -> None:
    assert_refused(
        """
emit
    NetworkTarget("c", load_port=True).require("emit") >> load_port with backend c >>
        backend verilog
    NetworkTarget("verilog", accumulate="dense").require("emit") >> accumulate with backend >>
        backend c
    NetworkTarget("c", vectors=0).require("emit") >> vectors is 0 >> 1 to 10000
    NetworkTarget("verilog", lanes=0).require("emit") >> lanes is 0 >> 1 to 64
    NetworkTarget("verilog", neurons_per_cycle=17).require("emit") >>
        neurons_per_cycle is 17 >> 1 to 16
    NetworkTarget("c", neurons_per_cycle=2).require("emit") >>
        neurons_per_cycle with backend c >> backend verilog
    NetworkTarget("c", accumulate="event").require("emit") >> accumulate is 'event' >>
        'events', 'dense'
""",
        globals(),
    )
