"""Experiment file: one training recipe, many neurons, and the searched settings of each.

    [data] [network] [train]      as `lnm train --config` takes them
    [search]  seeds, validation,  settings are compared on a held-out set, in shorter runs
              epochs
    [final]   seeds               the best setting of each row, on all training samples, tested once
    [[row]]   name, family, ...   a neuron: arguments, `vary` (lists; every combination is a row),
                                  `settings` (tables of searched settings; by default no search),
                                  `seeds` (number of final seeds, the first ones; by default all)

In `name`, {word} is the value of `vary.word`. A table in `vary` with a `name` of its own stands for
its other keys. A key of a setting, or of `vary`, is an argument of the family, a field of [train],
or `network.key`; in `vary` alone, also `seeds`. `neurons_from = "row:NAME"` is the final run of
that row with the same seed; in a search, the run of that row's best setting.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lnm_codegen.train.runs.config import TrainConfig
from lnm_codegen.train.runs.config_file import config_of, place_v_min, read_toml

FOLDER = Path(__file__).parent
TRAIN_FIELDS = {f.name for f in fields(TrainConfig)} - {"family", "arguments", "v_min"}


@dataclass(frozen=True)
class Row:
    """A neuron and its searched settings."""

    name: str
    config: TrainConfig
    settings: tuple[TrainConfig, ...]
    shown: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """One run: `phase` is search or final; `setting` is an index into the row's."""

    plan: str
    row: str
    phase: str
    setting: int
    seed: int
    config: TrainConfig

    @property
    def key(self) -> tuple[str, str, int, int]:
        """The job's identity within its plan."""
        return self.row, self.phase, self.setting, self.seed

    @property
    def after(self) -> str | None:
        """The row whose run of the same seed this run starts from."""
        name = str(self.config.neurons_from or "")
        return name[4:] if name.startswith("row:") else None


@dataclass(frozen=True)
class Plan:
    """The content of an experiment file."""

    name: str
    rows: tuple[Row, ...]
    search_seeds: tuple[int, ...]
    validation: int
    search_epochs: int | None
    seeds: tuple[int, ...]

    def searches(self) -> list[Job]:
        """Return the search jobs, the same setting of every row before the next setting."""
        most = max(len(row.settings) for row in self.rows)
        return [
            self.job(row, "search", k, seed)
            for seed in self.search_seeds
            for k in range(most)
            for row in self.rows
            if k < len(row.settings) > 1
        ]

    def finals(self, settings: Mapping[str, int], most: int | None = None) -> list[Job]:
        """Return the final jobs of the rows with a setting, seed by seed: of the first `most`."""
        return [
            self.job(row, "final", settings[row.name], seed)
            for seed in self.seeds[:most]
            for row in self.rows
            if row.name in settings and seed in row.seeds
        ]

    def job(self, row: Row, phase: str, setting: int, seed: int) -> Job:
        """Return a run of a row; a search trains on fewer samples, for as long as it says."""
        config = replace(row.settings[setting], seed=seed)
        if phase == "search":
            epochs = self.search_epochs or config.epochs
            config = replace(config, validation=self.validation, epochs=epochs)
        return Job(self.name, row.name, phase, setting, seed, config)


def read_plan(name: str) -> Plan:
    """Return the plan of `<name>.toml` in this folder."""
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise SystemExit(f"experiments: no plan {name!r}. Accepted: {known}.")
    return _plan(path, path.read_text(encoding="utf-8"))


@lru_cache
def _plan(path: Path, text: str) -> Plan:
    content = tomllib.loads(text)
    base = {k: content.get(k, {}) for k in ("data", "network", "train")}
    whole = _config(base, path)
    search, seeds = content.get("search", {}), tuple(content["final"]["seeds"])
    rows = [row for table in content["row"] for row in _rows(table, whole, seeds, path)]
    return Plan(
        path.stem, tuple(rows), tuple(search.get("seeds", (0,))), search.get("validation", 0),
        search.get("epochs"), seeds,
    )  # fmt: skip


def names_of(plan: Plan, row: str | None) -> list[str]:
    """Return the row `row`, or all rows whose name contains it."""
    names = [r.name for r in plan.rows]
    found = [row] if row in names else [name for name in names if (row or "") in name]
    if not found:
        raise SystemExit(f"experiments: {plan.name} has no row {row!r}. Accepted: {names}.")
    return found


def selected(plan: Plan, jobs: list[Job], row: str | None, seed: int | None) -> list[Job]:
    """Return the jobs of a seed and of the row `row`, or of all rows whose name contains it."""
    rows = names_of(plan, row)
    return [job for job in jobs if job.row in rows and (seed is None or job.seed == seed)]


def _config(tables: Mapping[str, Any], path: Path) -> TrainConfig:
    """Return the config of the three tables, read as `lnm train --config` reads them."""
    import json
    import tempfile

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {text(v)}" for k, v in value.items()) + "}"
        return json.dumps(value)

    lines = [
        line
        for name, table in tables.items()
        for line in (f"[{name}]", *(f"{k} = {text(v)}" for k, v in table.items()))
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        file.write_text("\n".join(lines), encoding="utf-8")
        return read_toml(file)


def _rows(
    table: dict[str, Any], base: TrainConfig, seeds: tuple[int, ...], path: Path
) -> list[Row]:
    table = dict(table)
    name, vary = table.pop("name"), table.pop("vary", {})
    settings = table.pop("settings", [{}])
    rows = []
    for values in itertools.product(*vary.values()):
        words = dict(w for k, v in zip(vary, values, strict=True) for w in _words(k, v))
        chosen: dict[str, Any] = {}
        for key, value in zip(vary, values, strict=True):
            named = isinstance(value, dict) and "name" in value
            chosen |= {k: v for k, v in value.items() if k != "name"} if named else {key: value}
        whole = {**table, **chosen}
        mine = seeds[: whole.pop("seeds", None)]
        config = _changed(base, whole, path)
        rows.append(
            Row(
                name.format(**words),
                config,
                tuple(_changed(config, s, path) for s in settings),
                tuple(", ".join(f"{k} = {v}" for k, v in s.items()) for s in settings),
                mine,
            )
        )
    return rows


def _changed(config: TrainConfig, changes: Mapping[str, Any], path: Path) -> TrainConfig:
    flat = config.as_json()
    for key, given in changes.items():
        value = None if given == "none" else given
        if key in ("family", "v_min") or key in TRAIN_FIELDS:
            flat[key] = value
        elif key.startswith("network."):
            flat["network_arguments"] = {**flat["network_arguments"], key[8:]: value}
        else:
            flat["arguments"] = {**flat["arguments"], key: value}
    if "v_min" in changes:
        place_v_min(flat)
    return config_of(flat, str(path))


def _words(key: str, value: Any) -> list[tuple[str, str]]:
    """Return the values of {key} in a name, or of {key_part} if the value is a table."""
    word = key.replace(".", "_")
    if isinstance(value, dict) and "name" in value:
        return [(word, value["name"])]
    if isinstance(value, dict):
        return [(f"{word}_{k}", str(v)) for k, v in value.items()]
    if key == "v_reset":
        return [(word, "soft" if value == "none" else "hard")]
    return [(word, str(value))]
