"""Verilog backend: all files of a neuron's circuit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lnm_codegen.backends.base import MANIFEST, Source
from lnm_codegen.backends.fixed import FORMS, FixedModel
from lnm_codegen.backends.verilog.array import (
    ArrayTimes,
    array_modules,
    array_times,
    check_channels,
    check_states,
)
from lnm_codegen.backends.verilog.design import CircuitDesign, check_names
from lnm_codegen.backends.verilog.folder import Form, folder_files, manifest
from lnm_codegen.backends.verilog.module import Module
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


@dataclass(frozen=True)
class NeuronCircuit:
    """A neuron's circuit.

    Attributes:
        design: The neuron.
        modules: Its modules, by their word: "next", "core", "mul".
        forms: Its forms.
        files: All files of its folder, path -> text.
    """

    design: CircuitDesign
    modules: dict[str, Module]
    forms: tuple[Form, ...]
    files: dict[str, str]

    @property
    def source(self) -> Source:
        """The files; the main one is the top module of the first form."""
        return Source(self.files, f"rtl/{self.design.name}_{self.forms[0].name}.v")


class Verilog:
    """Verilog-2005 from a neuron in fixed point."""

    def emit(self, model: FixedModel) -> Source:
        """Return the files of `circuit_of`."""
        return circuit_of(model).source


def circuit_of(model: FixedModel) -> NeuronCircuit:
    """Return the circuit of a neuron, its testbenches, its proofs and build scripts.

    Raises:
        UnsupportedError: A reserved name, a factor too wide for the multiplier, several channels
            without a memory, an array without a state.
    """
    design = CircuitDesign(model)
    check_names(design)
    check_factors(design)
    check_channels(design)
    check_states(design)
    modules, forms, benches = _forms(design)
    files = {f"rtl/{design.name}_{word}.v": module.text for word, module in modules.items()}
    files |= benches
    if "mul" in modules:
        files |= {path: ecp5_model(design) for path in simulation_files(design)}
    files |= proofs(design, modules, {form.name: form.latency for form in forms})
    files |= folder_files(design, modules, forms, files)
    files[MANIFEST] = manifest(design, forms, files)
    return NeuronCircuit(design, modules, forms, files)


def _forms(
    design: CircuitDesign,
) -> tuple[dict[str, Module], tuple[Form, ...], dict[str, str]]:
    """Return the modules of every form, the forms, and their testbenches and golden vectors."""
    name, count = design.name, design.rtl.vectors
    modules = {"next": next_module(design)}
    forms: list[Form] = []
    benches: dict[str, str] = {}
    steps: dict[str, Form] = {}  # without states
    step, run = step_vectors(design, count), run_vectors(design, count)

    def add(form: Form) -> None:
        vectors, file = (run, "run.hex") if form.name == "comb" else (step, "step.hex")
        form = replace(
            form, vectors=f"{name}_{file}", count=len(vectors.words), fields=vectors.fields
        )
        forms.append(form)
        benches[f"tb/{form.vectors}"] = vectors.text(design.model.family)
        benches[f"tb/{name}_{form.name}_tb.v"] = testbench(
            design, form.name, vectors, form.vectors, (form.latency, form.interval)
        )

    if "comb" in design.rtl.forms:
        modules["comb"] = comb_module(design)
        add(Form("comb", ("next", "comb"), 1, 1, _multipliers(design)))
    on_core = design.rtl.through == "core"
    if "core" in design.rtl.forms or ("array" in design.rtl.forms and on_core):
        pipeline = Pipeline(design)
        core = core_module(design, pipeline)  # it adds the delays of the results
        modules |= {word: leaf(design, word) for word in pipeline.leaves} | {"core": core}
        made = (*pipeline.leaves, "core")
        steps["core"] = Form("core", made, pipeline.latency, 1, pipeline.multipliers)
    if "seq" in design.rtl.forms or ("array" in design.rtl.forms and not on_core):
        sequence = Sequence(design)
        leaves = ("mul",) if sequence.steps else ()
        modules |= {word: leaf(design, word) for word in leaves}
        modules["seq"] = seq_module(design, sequence)
        made = (*leaves, "seq")
        steps["seq"] = Form("seq", made, sequence.latency, sequence.interval, len(leaves))
    for word in ("core", "seq"):
        if word in design.rtl.forms:
            add(steps[word])
    if "array" in design.rtl.forms:
        inner = steps[design.rtl.through]
        times = array_times(design, inner.latency)
        more = array_modules(design, times)
        modules |= {**more, "delay": leaf(design, "delay")}
        form, files = _array(design, inner, times, tuple(more))
        forms.append(form)
        benches |= files
    return modules, tuple(sorted(forms, key=lambda form: FORMS.index(form.name))), benches


def _array(
    design: CircuitDesign, inner: Form, times: ArrayTimes, own: tuple[str, ...]
) -> tuple[Form, dict[str, str]]:
    """Return the form of an array around another, its testbench and golden vectors.

    Its `own` modules are those beside the delay and the modules of the inner form.
    """
    name, vectors = design.name, array_vectors(design, design.rtl.vectors)
    file = f"{name}_array.hex"
    leaves = (*inner.modules[:-1], *(word for word in own if word != "array"), "delay")
    form = Form(
        name="array",
        modules=(*dict.fromkeys(leaves), inner.name, "array"),
        latency=times.latency,
        interval=times.interval,
        multipliers=inner.multipliers,
        more=(
            ("neurons", design.rtl.neurons),
            ("tick_cycles", times.tick_cycles),
        ),
        vectors=file,
        count=len(vectors.words),
        fields=vectors.fields,
        sequence=sequence_length(design, vectors),
    )
    benches = {
        f"tb/{file}": vectors.text(design.model.family),
        f"tb/{name}_array_tb.v": array_testbench(design, times, vectors, file),
    }
    return form, benches


def _multipliers(design: CircuitDesign) -> int:
    """Return the number of multipliers in the combinational step."""
    printer = design.printer()
    return sum(len(multiplied(let.value, printer)) for let in design.kernel.body)
