"""`lnm.nn.convert`: spiking layers of other libraries become layers of this package."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from lnm_codegen.analysis.linear.affine import matched_start
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.nn.call import first_output
from lnm_codegen.nn.convert.libraries import Library, described, is_spiking, library_of
from lnm_codegen.nn.convert.recipe import (
    NOTHING,
    BroadcastLayer,
    Protocol,
    Recipe,
    added,
    clashing,
    move,
)
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.load.warn import warn
from lnm_codegen.nn.states import reset_of
from lnm_codegen.options import BackendName
from lnm_codegen.validation import require_bool, require_one_of, wrong

Model = TypeVar("Model", bound=nn.Module)
Choice: TypeAlias = "Neuron | Callable[[nn.Module], Neuron | None] | None"
"""A neuron for every layer, or a function that returns one for an old layer, or None."""

Shared: TypeAlias = dict[tuple[int, str], nn.Parameter]
"""Id of an old tensor, and which part of it -> the parameter in its place."""

_RECORD = "_conversion"
"""Attribute of a new layer that has its line of the report."""

_RESET = (
    "snntorch.utils.reset and reset_hidden do not reset converted layers, which have "
    "init_hidden=True. Use lnm.nn.reset(model)."
)
_NOTHING = (
    "no layer of this {} was replaced. Accepted: spiking layers of SpikingJelly, snnTorch and "
    "Norse. Print lnm.nn.conversion_report(model); write lnm.nn.NeuronLayer in place of other "
    "activations, such as ReLU."
)
_INSIDE = "it is inside of another spiking layer. Convert it alone, and assign the result."
_LISTED = 20
"""Layers of one reason that a warning names."""


def convert(
    model: Model,
    neuron: Choice = None,
    *,
    carry_state: bool | None = None,
    strict: bool = False,
) -> Model | NeuronLayer:
    """Replace the spiking layers of SpikingJelly, snnTorch and Norse in a model, in place.

    A new layer has the dynamics of the old one: the same spikes and gradients up to rounding. It
    has the same calls, step mode, detach_reset and training mode, and it begins without states. Its
    parameters have the old names, values and order; one of the same shape stays the same object.
    Weights of a recurrent layer are `weight`, `recurrent` and `bias`, as in `RecurrentLayer`.
    What the user added to the old layer moves to it. A state_dict of the old model loads, unless
    `neuron` gives another neuron; that of Norse has no tensor of `p`, which keeps its values. A
    layer that cannot be converted stays as it is. One RuntimeWarning a call counts and names those
    layers, or says that there was nothing to convert; `conversion_report` has the reasons.

    Args:
        model: A module, or a spiking layer itself.
        neuron: Another neuron for the layers: an `lnm.Neuron`, or a function of the old layer that
            returns one, or None for its own dynamics. Where its initial values can give the old
            dynamics, the new layer begins with them.
        carry_state: The option `carry_state` of every new layer. None is that of the old layers:
            True for SpikingJelly, False for snnTorch and Norse.
        strict: Raise an error in place of the warning about layers that stay, and change nothing.

    Returns:
        The model; the new layer, if `model` is a spiking layer.

    Raises:
        ModelError: `model` is not a module, `neuron` is or returns another thing, or `carry_state`
            is not a bool or None.
        UnsupportedError: With `strict`, a spiking layer cannot be converted, or there is none.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> from spikingjelly.activation_based.neuron import LIFNode
        >>> model = lnm.nn.convert(torch.nn.Sequential(torch.nn.Linear(3, 8), LIFNode()))
        >>> print(lnm.nn.conversion_report(model))
        Layers: 1 exact, 0 approximate, 0 refused.
          1: spikingjelly.LIFNode -> lif, exact
        Exact: while potentials are finite; after infinity or NaN, spikes may differ.
    """
    if not isinstance(model, nn.Module):
        raise wrong("convert", "model", model, "a torch.nn.Module")
    is_choice = neuron is None or isinstance(neuron, Neuron) or callable(neuron)
    if not is_choice or isinstance(neuron, nn.Module):
        raise wrong("convert", "neuron", neuron, "an lnm.Neuron, or a function of the old layer")
    require_one_of("convert", "carry_state", carry_state, (None, True, False))
    require_bool("convert", "strict", strict)
    conversion = _Conversion(model, neuron)
    staying = conversion.staying(model)
    problem = staying or _idle(model)
    spiking = [module for module in model.modules() if is_spiking(module)]
    is_converted = bool(spiking) and all(isinstance(m, NeuronLayer) for m in spiking)
    if strict and problem and not is_converted:
        remedy = "Replace them, or leave out strict=True." if staying else ""
        raise UnsupportedError("convert", problem.rstrip("."), remedy=remedy)
    layers = [(old, library) for _, old, library in _spiking(model)]
    new = {id(old): conversion.layer(old, library) for old, library in layers}
    notes = [problem]
    ours = [layer for layer in new.values() if isinstance(layer, NeuronLayer)]
    if any(vars(layer).get("init_hidden") for layer in ours):
        notes.append(_RESET)
    if any(notes):
        warn("convert: " + " ".join(filter(None, notes)))
    for parent in list(model.modules()):
        replace_in(parent, new)
    for (old, library), layer in zip(layers, new.values(), strict=True):
        if layer is not old:
            move_hooks(old, layer)
            _forget(old, library)
            if carry_state is not None:
                layer.carry_state = carry_state  # type: ignore[assignment]
    _forget_caches(model)
    replaced = new.get(id(model), model)
    return replaced  # type: ignore[return-value]


def conversion_report(model: nn.Module) -> ConversionReport:
    """Return what `convert` made of each spiking layer of a model, or would make before it.

    Raises:
        ModelError: `model` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise wrong("conversion_report", "model", model, "a torch.nn.Module")
    conversion = _Conversion(model, None, measured=False)
    lines: list[LayerConversion] = []
    for path, module in model.named_modules():
        record = getattr(module, _RECORD, None)
        library = library_of(module)
        if isinstance(record, LayerConversion):
            lines.append(record.at(path, converted=isinstance(module, NeuronLayer)))
        elif library is not None and not isinstance(module, NeuronLayer):
            lines.append(conversion.line(module, library).at(path, converted=False))
    return ConversionReport(tuple(lines))


def _spiking(model: nn.Module) -> Iterator[tuple[str, nn.Module, Library]]:
    """Yield the spiking layers of a model, each once, without those inside of another one."""
    inner: set[int] = set()
    for path, module in model.named_modules():
        library = None if id(module) in inner else library_of(module)
        if library is not None:
            inner |= {id(m) for m in module.modules()} - {id(module)}
            yield path, module, library


def _outside(module: nn.Module, known: set[int]) -> Iterator[nn.Module]:
    """Yield the modules with a path from a model that does not lead through a spiking layer."""
    if id(module) in known:
        return
    yield module
    for child in module.children():
        yield from _outside(child, known)


class _Conversion:
    """Conversion of layers with one choice of neurons."""

    def __init__(self, model: nn.Module, choice: Choice, measured: bool = True) -> None:
        self._like, self._choice, self._measures = _like(model), choice, measured
        self._shared: Shared = {}
        layers = {id(old): old for _, old, _ in _spiking(model)}
        others = _outside(model, set(layers))
        self._elsewhere = {id(p) for m in others for p in m._parameters.values()}
        self._recipes = {id(old): self._found(old, lib) for _, old, lib in _spiking(model)}
        while refused := self._refused(layers):
            for key in refused:
                self._elsewhere |= {id(p) for p in layers.pop(key).parameters()}

    def _refused(self, layers: dict[int, nn.Module]) -> list[int]:
        """Return which of the layers stay. Another layer may share a parameter with one of them."""
        for key, old in layers.items():
            recipe = self._recipes[key]
            if not isinstance(recipe, str):
                self._recipes[key] = self._obstacle(old, recipe) or recipe
        return [key for key in layers if isinstance(self._recipes[key], str)]

    def staying(self, model: nn.Module) -> str:
        """Return a sentence that counts and names the spiking layers that stay, or ""."""
        named: dict[str, list[str]] = {}
        for path, module in model.named_modules():
            library = library_of(module)
            recipe = self._recipes.get(id(module), _INSIDE)
            if library is not None and isinstance(recipe, str):
                text = f"{library.name}.{type(module).__name__}: {recipe}"
                named.setdefault(text, []).append(path or "(model)")
        count = sum(map(len, named.values()))
        all_ones = sum(is_spiking(module) for module in model.modules())
        lines = []
        for text, paths in named.items():
            more = [f"{len(paths) - _LISTED} more"] if len(paths) > _LISTED else []
            lines.append(f"{', '.join([*paths[:_LISTED], *more])} ({text.rstrip('.')})")
        found = f"{count} of {all_ones} spiking layers stay as they are: {'; '.join(lines)}."
        return found if named else ""

    def layer(self, old: nn.Module, library: Library) -> nn.Module:
        """Return the layer in the place of an old one, or the old one."""
        recipe = self._recipes[id(old)]
        record = self._record(old, library, recipe)
        if isinstance(recipe, str):
            layer = old
        else:
            layer = built(recipe, old, self._like, shared=self._shared)
            move(added(old, recipe), old, layer)
            order(layer, [*old._parameters, *recipe.protocol.given])
        vars(layer)[_RECORD] = record
        return layer

    def line(self, old: nn.Module, library: Library) -> LayerConversion:
        """Return the line of a layer that stays."""
        return self._record(old, library, self._recipes.get(id(old), _INSIDE))

    def _obstacle(self, old: nn.Module, recipe: Recipe) -> str:
        """Return why a new layer cannot have all that belongs to the old one, or ""."""
        given, names = {**recipe.kept.given, **recipe.protocol.given}, added(old, recipe)
        tied = [n for n, tensor in given.items() if id(tensor) in self._elsewhere]
        if not (names or tied):
            return ""
        new = built(recipe, old, self._like)
        clash = clashing(names, old, new)
        if clash:
            return f"it has attributes with names of a NeuronLayer or a method: {', '.join(clash)}"
        tied = [n for n in tied if getattr(new, n) is not given[n]]
        if tied:
            needed = getattr(new, tied[0])
            own = f"a parameter of shape {tuple(needed.shape)} and {needed.dtype}"
            return f"another module has its {tied[0]} too, and the new layer needs {own}"
        return ""

    def _found(self, old: nn.Module, library: Library) -> Recipe | str:
        given = self._given(old)
        try:
            if given is None:
                recipe = library.known_recipe(old)
                if recipe.protocol.weights is not None:
                    recipe.protocol.weights.require(type(old).__name__, recipe.kept)
                return recipe
            protocol = library.known_protocol(old, given)
        except UnsupportedError as error:
            return described(error)
        try:
            return recipe_with(given, protocol, library.known_recipe(old))
        except UnsupportedError:  # the old dynamics have no recipe, so there is nothing to begin at
            return recipe_with(given, protocol, None)

    def _given(self, old: nn.Module) -> Neuron | None:
        choice = self._choice
        given = choice if choice is None or isinstance(choice, Neuron) else choice(old)
        if given is None:
            return None
        if not isinstance(given, Neuron):
            raise wrong("convert", "neuron(layer)", given, "an lnm.Neuron, or None")
        require_one_port("convert", given)
        return given

    def _record(self, old: nn.Module, library: Library, recipe: Recipe | str) -> LayerConversion:
        name = f"{library.name}.{type(old).__name__}"
        if isinstance(recipe, str):
            return LayerConversion(name, "refused", recipe)
        status = "approximate" if recipe.reason else "exact"
        found = None
        if recipe.reason and self._measures:
            with torch.random.fork_rng(devices=[]):
                found = differences(old, built(recipe, old, self._like, "torch"), recipe)
        return LayerConversion(
            name,
            status,  # type: ignore[arg-type]
            recipe.reason,
            recipe.neuron.name,
            None if found is None else found.spikes,
            None if found is None else found.gradient,
        )


def _like(model: nn.Module) -> Tensor:
    """Return a tensor with the type and device of a model's first floating-point parameter."""
    tensors = (*model.parameters(), *model.buffers())
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def _idle(model: nn.Module) -> str:
    """Return why a conversion has nothing to do, or ""."""
    kind, modules = type(model).__name__, [*model.modules()]
    if any(library_of(module) is not None for module in modules):
        return ""
    ours = sum(isinstance(module, NeuronLayer) for module in modules)
    if ours:
        return f"this {kind} is converted already: its {ours} spiking layers are of lnm.nn."
    return _NOTHING.format(kind)


def _forget(old: nn.Module, library: Library) -> None:
    instances: list[Any] = getattr(type(old), "instances", [])
    if library.name == "snntorch":
        instances[:] = [one for one in instances if one is not old]


def _forget_caches(model: nn.Module) -> None:
    """Clear SpikingJelly's lists of the modules that its `reset_net` resets."""
    config = sys.modules.get("spikingjelly.activation_based.functional.net_config")
    invalidate = getattr(config, "invalidate_reset_cache", None)
    if invalidate is not None:
        for module in model.modules():
            invalidate(module)


# New layers: a recipe, or a neuron of the user's, becomes a layer in the place of an old one.


_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks",
    "_backward_pre_hooks", "_is_full_backward_hook", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def built(
    recipe: Recipe,
    old: nn.Module,
    like: torch.Tensor,
    backend: BackendName = "auto",
    shared: Shared | None = None,
) -> NeuronLayer:
    """Return the new layer.

    Args:
        recipe: The neuron and the form of the calls.
        old: The old layer; its parameters become parameters of the new one, the same objects where
            their shapes are the same.
        like: Tensor with the type and the device of the parameters, where the old layer has no
            learned tensor.
        backend: See `NeuronLayer`.
        shared: Old learned tensors and the parameters in their places, so that layers that share
            the one share the other. The old layers must exist as long as the dict.
    """
    protocol, own = recipe.protocol, recipe.kept
    weights, shared = protocol.weights, {} if shared is None else shared
    learned = [own.given[name] for name in own.given if own.learns(name)]
    like = next(iter([*protocol.given.values(), *learned]), like)
    options: dict[str, Any] = {
        "backend": backend,
        "step_mode": protocol.step_mode,
        "carry_state": protocol.carry_state,
        "device": like.device,
        "dtype": like.dtype if weights or like.dtype is torch.float64 else torch.float32,
    }
    if weights is None:
        options |= {"channels": own.channels, "shape": own.shape}
        layer = protocol.layer(recipe.neuron, **options)
    else:
        layer = weights.layer(protocol.layer, recipe.neuron, own, **options)
    for name, value in protocol.attributes.items():
        setattr(layer, name, value)
    if isinstance(layer, BroadcastLayer):
        names = (param.name for param in recipe.neuron.params)
        layer.broadcast = tuple(name for name in names if own.per.get(name) == "neuron")
    for name in (p.name for p in layer.neuron.params if p.name in own.values):
        _keep(layer, name, own.values[name], own.given[name], own.learns(name), shared)
    for name, value in ({} if weights is None else weights.values).items():
        _keep(layer, name, value, protocol.given[name], True, shared)
    for name in protocol.buffers:
        layer.register_buffer(name, getattr(old, name).detach().clone())
    if protocol.buffers:
        layer.fixed = protocol.buffers
    return layer.train(old.training)


def _keep(
    layer: NeuronLayer,
    name: str,
    value: Tensor,
    given: Tensor,
    learns: bool,
    shared: Shared,
) -> None:
    """Give a layer an old value; an old parameter of the same shape stays the same object."""
    new = getattr(layer, name)
    with torch.no_grad():
        new.copy_(value.reshape(new.shape))
    if not learns:
        return
    new.requires_grad_(given.requires_grad)
    is_same = given.shape == new.shape and given.dtype is new.dtype
    kept = given if is_same and isinstance(given, nn.Parameter) else new
    part = "" if value.numel() == given.numel() else name
    layer._parameters[name] = shared.setdefault((id(given), part), kept)


def order(layer: nn.Module, names: list[str]) -> None:
    """Put the parameters in the order of these names, by which optimisers know them."""
    own = layer._parameters
    for name in [n for n in names if n in own] + [n for n in own if n not in names]:
        own[name] = own.pop(name)


def recipe_with(neuron: Neuron, protocol: Protocol, target: Recipe | None) -> Recipe:
    """Return the recipe of a neuron that the user gives.

    Args:
        neuron: The neuron.
        protocol: Form of the calls.
        target: Recipe of the old dynamics, with which the neuron begins if it can, or None.
    """
    start = None
    if target is not None and set(target.kept.per.values()) <= {"layer"}:
        values = {name: float(value.detach()) for name, value in target.kept.values.items()}
        known = {p.name for p in target.neuron.params}
        old = target.neuron.with_init(**{n: v for n, v in values.items() if n in known})
        start = matched_start(neuron, old)
    if start is None:
        return Recipe(neuron, protocol, NOTHING, "the neuron is given")
    reason = "the neuron is given, and begins with the old dynamics"
    return Recipe(neuron.with_init(**start), protocol, NOTHING, reason)


def move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give the hooks of an old layer to the new one; their handles still remove them."""
    table: dict[str, Any] = vars(old)
    vars(new).update({name: table[name] for name in _HOOKS if table.get(name) is not None})
    bound: Iterable[Any] = new._load_state_dict_pre_hooks.values()
    for hook in bound:
        if getattr(hook, "with_module", False):  # a weak reference to the old layer
            hook.module = weakref.ref(new)


# Comparison of an old layer with the new one on random input.


STEPS, BATCH, WIDTH = 16, 4, 32
"""Shape of the input, (T, N, C), unless parameters have one."""

_SCALES = (1.0, 4.0, 16.0, 64.0, 0.25)
"""Scales of the input; the first at which the old layer's outputs differ in time is used."""


class Differences(NamedTuple):
    """Share of outputs that differ, and the largest difference of gradients of x."""

    spikes: float
    gradient: float


def differences(old: nn.Module, new: NeuronLayer, recipe: Recipe) -> Differences | None:
    """Return the differences on random input, or None where the old layer does not run alone.

    Both layers lose their states.
    """
    weights, shape = recipe.protocol.weights, recipe.kept.shape or (recipe.kept.channels or WIDTH,)
    wide = shape if weights is None else (weights.size,)
    shape = shape if weights is None else (weights.inputs or weights.size,)
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + torch.randn((STEPS, BATCH, *shape), generator=generator)
    weight = torch.randn((STEPS, BATCH, *wide), generator=generator)
    like = next(iter(new.buffers()), next(iter(new.parameters()), x))
    x, weight = x.to(like), weight.to(like)
    for scale in _SCALES:
        try:
            theirs = _run(old, scale * x, weight, new.step_mode)
        except Exception:  # code of a library, on an input that the model never gives
            return None
        if not torch.equal(*theirs[0].aminmax()):
            break
    ours = _run(new, scale * x, weight, new.step_mode)
    differing = (theirs[0] != ours[0]).double().mean().item()
    largest = theirs[1].abs().max().clamp_min(torch.finfo(x.dtype).tiny)
    return Differences(differing, ((theirs[1] - ours[1]).abs().max() / largest).item())


def _run(layer: Any, x: Tensor, weight: Tensor, step_mode: str) -> tuple[Tensor, Tensor]:
    """Return the outputs of a layer and the gradient of x, from its initial states."""
    x = x.clone().requires_grad_()
    discard, hides = reset_of(layer) or dict, getattr(layer, "init_hidden", False)
    discard()
    with torch.enable_grad():
        if step_mode == "m":
            out = first_output(layer(x))
        else:
            steps, state = [], ()
            for step in x.unbind():
                result = layer(step, *state)
                steps.append(first_output(result))
                state = result[1:] if isinstance(result, tuple) and not hides else ()
            out = torch.stack(steps)
        (grad,) = torch.autograd.grad((out * weight).sum(), x, allow_unused=True)
    discard()
    return out.detach(), torch.zeros_like(x) if grad is None else grad


# Report of a conversion: one line for each spiking layer.


Status = Literal["exact", "approximate", "refused"]

_FINITE = "Exact: while potentials are finite; after infinity or NaN, spikes may differ."


@dataclass(frozen=True, slots=True)
class LayerConversion:
    """A spiking layer of a model and what `convert` makes of it.

    Attributes:
        source: Library and class: "spikingjelly.LIFNode".
        status: "exact": the same spikes and gradients up to rounding, while potentials are finite.
            After an infinite one, the old layer mostly has NaN. "approximate": see `reason`.
            "refused": the layer stays as it is, see `reason`.
        reason: Why the layer is not exact, or empty.
        neuron: Name of the new neuron, or empty where the layer is refused.
        differing_spikes: Share of outputs that differ on random input, 0 to 1, where measured.
        gradient_difference: Largest difference of the gradient of x there, as a share of the
            largest gradient, where measured.
        converted: False before `convert`, and for refused layers.
        path: Path in the model; a layer with several paths has the first.
    """

    source: str
    status: Status
    reason: str = ""
    neuron: str = ""
    differing_spikes: float | None = None
    gradient_difference: float | None = None
    converted: bool = False
    path: str = ""

    def at(self, path: str, converted: bool) -> LayerConversion:
        """Return the same at a path."""
        return replace(self, path=path, converted=converted)

    def __str__(self) -> str:
        """Return "features.2: snntorch.Leaky -> leaky, exact"."""
        target = f" -> {self.neuron}" if self.neuron else ""
        measured = ""
        if self.differing_spikes is not None:
            measured = f"; {self.differing_spikes:.2%} of the spikes differ"
        if self.gradient_difference is not None:
            measured += f", gradient by {self.gradient_difference:.2g} of its largest value"
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.path or '(model)'}: {self.source}{target}, {self.status}{reason}{measured}"


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """The spiking layers of a model, in its order. `print(report)` has a line for each."""

    layers: tuple[LayerConversion, ...] = ()

    def of(self, status: Status) -> tuple[LayerConversion, ...]:
        """Return the layers with a status."""
        return tuple(layer for layer in self.layers if layer.status == status)

    def __str__(self) -> str:
        """Return counts and a line for each layer."""
        if not self.layers:
            return "No spiking layer of SpikingJelly, snnTorch or Norse."
        kinds: tuple[Status, ...] = ("exact", "approximate", "refused")
        counts = ", ".join(f"{len(self.of(kind))} {kind}" for kind in kinds)
        open_ones = sum(not layer.converted and layer.status != "refused" for layer in self.layers)
        waiting = f" Not converted yet: {open_ones}." if open_ones else ""
        lines = [f"Layers: {counts}.{waiting}", *(f"  {one}" for one in self.layers)]
        return "\n".join([*lines, *([_FINITE] if self.of("exact") else [])])


# Replacement of modules wherever the attributes of a module have them.


def replace_in(module: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Replace submodules, also in lists, tuples and dicts, which may contain each other.

    Args:
        module: Changed in place. Lists and dicts stay the same objects.
        new: Id of an old module -> the module in its place.
    """
    seen: set[int] = set()

    def replaced(value: Any) -> Any:
        if isinstance(value, nn.Module):
            return new.get(id(value), value)
        if isinstance(value, tuple):
            items = [replaced(item) for item in value]
            if all(a is b for a, b in zip(items, value, strict=True)):
                return value
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if not isinstance(value, list | dict) or id(value) in seen:
            return value
        seen.add(id(value))
        for key, item in [*(value.items() if isinstance(value, dict) else enumerate(value))]:
            other = replaced(item)
            if other is not item:
                value[key] = other
        return value

    replaced(vars(module))
