"""Verilog backend: all files of a neuron's circuit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.earlier import MANIFEST
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.rtl import FORMS
from lnm_codegen.backends.verilog.array import (
    array_modules,
    array_times,
    check_channels,
    check_states,
)
from lnm_codegen.backends.verilog.folder import Form, folder_files, manifest
from lnm_codegen.backends.verilog.parts import CircuitDesign, check_names
from lnm_codegen.backends.verilog.pipeline import (
    Pipeline,
    check_factors,
    comb_module,
    core_module,
    ecp5_model,
    leaf,
    multiplied,
    next_module,
    simulation_files,
)
from lnm_codegen.backends.verilog.proofs import proofs
from lnm_codegen.backends.verilog.sequence import Sequence, seq_module
from lnm_codegen.backends.verilog.testbench import (
    array_testbench,
    array_vectors,
    run_vectors,
    sequence_length,
    step_vectors,
    testbench,
)


class Verilog:
    """Verilog-2005 from a neuron in fixed point."""

    def emit(self, model: FixedModel) -> Source:
        """Return the circuit of `model`, its testbenches, its proofs and build scripts.

        Raises:
            UnsupportedError: A reserved name, a factor too wide for the multiplier, several
                channels without a memory, an array without a state.
        """
        design = CircuitDesign(model)
        check_names(design)
        check_factors(design)
        check_channels(design)
        check_states(design)
        files, forms = _forms(design)
        files |= proofs(design, files, {form.name: form.latency for form in forms})
        files |= folder_files(design, forms, files)
        files[MANIFEST] = manifest(design, forms, files)
        return Source(files, f"rtl/{design.name}_{forms[0].name}.v")


def _forms(design: CircuitDesign) -> tuple[dict[str, str], tuple[Form, ...]]:
    """Return modules, testbenches and golden vectors of every form."""
    name, count = design.name, design.rtl.vectors
    files = {f"rtl/{name}_next.v": next_module(design)}
    forms: list[Form] = []
    step, run = step_vectors(design, count), run_vectors(design, count)

    def add(form: Form) -> None:
        vectors, file = (run, "run.hex") if form.name == "comb" else (step, "step.hex")
        form = replace(
            form, vectors=f"{name}_{file}", count=len(vectors.words), fields=vectors.fields
        )
        forms.append(form)
        files[f"tb/{form.vectors}"] = vectors.text(design.model.family)
        files[f"tb/{name}_{form.name}_tb.v"] = testbench(
            design, form.name, vectors, form.vectors, (form.latency, form.interval)
        )

    def add_leaves(words: Iterable[str]) -> None:
        files.update({f"rtl/{name}_{word}.v": leaf(design, word) for word in words})

    if "comb" in design.rtl.forms:
        files[f"rtl/{name}_comb.v"] = comb_module(design)
        add(Form("comb", ("next", "comb"), 1, 1, _multipliers(design)))
    if {"core", "array"} & {*design.rtl.forms}:
        pipeline = Pipeline(design)
        core = core_module(design, pipeline)
        leaves = sorted(pipeline.uses)
        add_leaves(leaves)
        files[f"rtl/{name}_core.v"] = core
        if "core" in design.rtl.forms:
            modules = (*leaves, "core")
            add(Form("core", modules, pipeline.latency, 1, pipeline.multipliers))
        if "array" in design.rtl.forms:
            array_files, form = _array(design, pipeline)
            files |= array_files
            forms.append(form)
    if "seq" in design.rtl.forms:
        sequence = Sequence(design)
        files[f"rtl/{name}_seq.v"] = seq_module(design, sequence)
        leaves = ["mul"] if sequence.steps else []
        add_leaves(leaves)
        add(Form("seq", (*leaves, "seq"), sequence.latency, sequence.interval, len(leaves)))
    if "mul" in {module for form in forms for module in form.modules}:
        files |= {path: ecp5_model(design) for path in simulation_files(design)}
    return files, tuple(sorted(forms, key=lambda form: FORMS.index(form.name)))


def _array(design: CircuitDesign, pipeline: Pipeline) -> tuple[dict[str, str], Form]:
    """Return the files of the array beside those of its core."""
    name, times = design.name, array_times(design, pipeline.latency)
    modules = array_modules(design, times)
    leaves = (*sorted(pipeline.uses), *(word for word in modules if word != "array"), "delay")
    vectors, file = array_vectors(design, design.rtl.vectors), f"{name}_array.hex"
    form = Form(
        name="array",
        modules=(*dict.fromkeys(leaves), "core", "array"),
        latency=times.latency,
        interval=1,
        multipliers=pipeline.multipliers,
        more=(("neurons", design.rtl.neurons), ("tick_cycles", times.tick_cycles)),
        vectors=file,
        count=len(vectors.words),
        fields=vectors.fields,
        sequence=sequence_length(design, vectors),
    )
    files = {f"rtl/{name}_{word}.v": text for word, text in modules.items()}
    files[f"rtl/{name}_delay.v"] = leaf(design, "delay")
    files[f"tb/{file}"] = vectors.text(design.model.family)
    files[f"tb/{name}_array_tb.v"] = array_testbench(design, times, vectors, file)
    return files, form


def _multipliers(design: CircuitDesign) -> int:
    """Return the number of multipliers in the combinational step."""
    printer = design.printer()
    return sum(len(multiplied(let.value, printer)) for let in design.kernel.body)
