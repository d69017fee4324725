"""A model of network.json, written from docs/reference/network_json.md without our code."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import numpy as np

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
           "==": operator.eq, "!=": operator.ne}  # fmt: skip


def half_up(x: np.ndarray, places: Any) -> np.ndarray:
    """Return floor(x / 2**places + 1/2)."""
    return (x + ((np.int64(1) << places) >> 1)) >> places


def clamped(x: np.ndarray, width: int) -> np.ndarray:
    return np.clip(x, -(1 << (width - 1)), (1 << (width - 1)) - 1)


def of_format(text: str) -> tuple[int, int]:
    """Return width and fraction bits of Qi.f."""
    whole, frac = text[1:].split(".")
    return int(whole) + int(frac), int(frac)


def value(node: dict[str, Any], known: dict[str, Any]) -> Any:
    match node:
        case {"node": "var", "name": name}:
            return known[name]
        case {"node": "const", "integer": integer}:
            return np.int64(integer)
        case {"node": "negate", "arg": arg}:
            return -value(arg, known)
        case {"node": "sum", "op": op, "lhs": lhs, "rhs": rhs}:
            a, b = value(lhs, known), value(rhs, known)
            return a + b if op == "+" else a - b
        case {"node": "product", "lhs": lhs, "rhs": rhs}:
            return value(lhs, known) * value(rhs, known)
        case {"node": "shift", "arg": arg, "places": places}:
            return value(arg, known) << places
        case {"node": "round", "arg": arg, "places": places, "rounding": rounding}:
            x = value(arg, known)
            if rounding == "half_up":
                return half_up(x, places)
            below = x >> places
            if rounding == "truncate":
                return below
            rest, half = x - (below << places), (1 << places) >> 1
            return below + ((rest > half) | ((rest == half) & (below % 2 == 1)))
        case {"node": "saturate", "arg": arg, "width": width}:
            return clamped(value(arg, known), width)
        case {"node": "compare", "op": op, "lhs": lhs, "rhs": rhs}:
            return COMPARE[op](value(lhs, known), value(rhs, known))
        case {"node": "not", "arg": arg}:
            return ~np.asarray(value(arg, known), bool)
        case {"node": "both", "lhs": lhs, "rhs": rhs}:
            return value(lhs, known) & value(rhs, known)
        case {"node": "either", "lhs": lhs, "rhs": rhs}:
            return value(lhs, known) | value(rhs, known)
        case {"node": "select", "cond": cond, "then": then, "orelse": orelse}:
            return np.where(value(cond, known), value(then, known), value(orelse, known))
    raise AssertionError(node)


class Model:
    """The network of a folder, for one sample at a time."""

    def __init__(self, folder: Path) -> None:
        self.content = json.loads((folder / "network.json").read_text())
        self.arrays = dict(np.load(folder / "network.npz"))

    def scores(self, sample: np.ndarray) -> np.ndarray:
        """Return the scores (classes,), or (T, classes), of a sample (T, *) or repeated (*)."""
        content = self.content
        self.memory: dict[int, Any] = {}
        steps = range(content["time_steps"])
        outputs = [self.step(sample if content["repeated"] else sample[t]) for t in steps]
        over = {"mean": sum, "last": lambda o: o[-1], "max": lambda o: np.max(o, axis=0),
                "step": np.array}  # fmt: skip
        return np.asarray(over[content["over"]](outputs))

    def step(self, x: np.ndarray) -> np.ndarray:
        source = self.content["input"]
        x = np.asarray(x, np.int64).reshape(source["shape"])
        form = source.get("format", "spikes")
        frac = source.get("frac", 0 if form == "spikes" else of_format(form)[1])
        found = {-1: (x, frac)}
        for k, stage in enumerate(self.content["stages"]):
            if stage["stage"] in ("linear", "conv"):
                x, frac = self.weights(k, stage, x, frac), of_format(stage["output"])[1]
            elif stage["stage"] == "neurons":
                x, frac = self.neurons(k, stage, x)
            elif stage["stage"] == "flatten":
                x = x.reshape(-1)
            elif stage["stage"] == "branch":
                x, frac = found[stage["origin"]]
            elif stage["stage"] == "add":
                other, places = found[stage["other"]]
                most = max(frac, places, of_format(stage.get("output", "Q1.0"))[1])
                x, frac = (x << (most - frac)) + (other << (most - places)), most
                if "output" in stage:
                    width, frac = of_format(stage["output"])
                    x = clamped(half_up(x, most - frac), width)
            else:
                n = stage["size"]
                height, width = x.shape[1] // n, x.shape[2] // n
                windows = x[:, : height * n, : width * n].reshape(-1, height, n, width, n)
                x = windows.max((2, 4)) if stage["kind"] == "max" else windows.sum((2, 4))
            found[k] = x, frac
        return x

    def weights(self, k: int, stage: dict[str, Any], x: np.ndarray, frac: int) -> np.ndarray:
        words = ("weight", "bias", "multiplier", "shift")
        weight, bias, factor, shift = (self.arrays[stage[w]].astype(np.int64) for w in words)
        if stage["stage"] == "linear":
            if "delay" in stage:
                past = self.memory.setdefault(k + 1, [])
                far = len(past) >= stage["delay"]
                fed = past[-stage["delay"]] if far else np.zeros(len(weight), np.int64)
                x = np.concatenate([x, fed << frac])
            acc, axes = bias + weight @ x, (-1,)
        else:
            pad, by, (high, wide) = stage["padding"], stage["stride"], weight.shape[2:]
            x, axes = np.pad(x, ((0, 0), (pad, pad), (pad, pad))), (-1, 1, 1)
            rows = range(0, x.shape[1] - high + 1, by)
            columns = range(0, x.shape[2] - wide + 1, by)
            acc = np.array([[(weight * x[:, i : i + high, j : j + wide]).sum((1, 2, 3)) + bias
                             for j in columns] for i in rows]).transpose(2, 0, 1)  # fmt: skip
        factor, shift = factor.reshape(axes), shift.reshape(axes)
        right, left = np.maximum(shift, 0), np.maximum(-shift, 0)
        return clamped(half_up(factor * acc, right) << left, of_format(stage["output"])[0])

    def neurons(self, k: int, stage: dict[str, Any], x: np.ndarray) -> tuple[np.ndarray, int]:
        def each(name: str) -> np.ndarray:
            numbers = self.arrays[name].astype(np.int64)
            return np.repeat(numbers, x.size // len(numbers)).reshape(x.shape)

        kernel = stage["program"]["kernel"]
        known = {name: each(array) for name, array in stage["coefficients"].items()}
        start = {name: each(array) for name, array in stage["initial"].items()}
        known |= self.memory.get(-1 - k, start)
        known |= {p["var"]["name"]: x for p in kernel["inputs"] if p["role"] == "input"}
        for line in kernel["body"]:
            known[line["target"]["name"]] = value(line["value"], known)
        self.memory[-1 - k] = {n: np.broadcast_to(known[f"{n}_next"], x.shape) for n in start}
        (out,) = (p["var"] for p in kernel["results"] if p["role"] == "output")
        found = np.broadcast_to(np.asarray(known[out["name"]], np.int64), x.shape)
        self.memory.setdefault(k, []).append(found)
        return found, 0 if out["type"] == "bool" else of_format(out["type"])[1]
