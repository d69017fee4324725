"""Plan of a comparison: neurons, the settings searched for each, and seeds, in a TOML file.

    [data] [network] [train]      as `lnm train --config` takes them; a row may change each key;
                                  by default a run is tested once, `evaluate_every = 0`
    [search]  validation          settings are compared on N samples held out of the training set,
              epochs, seeds       in runs of this length, with these seeds; by default [0]. A triple
                                  (train, valid, test) has such samples, and needs no N
    [final]   seeds               the best setting of each row is trained on all training samples
                                  with each seed, and tested once; 3 stands for [0, 1, 2]
              reference           name of the row that the others are compared with; by default the
                                  first one
    [[row]]   family, name, ...   a neuron and its arguments; `vary`: lists, every combination is a
                                  row; `settings`: tables of searched settings, by default no
                                  search; `seeds`: number of final seeds, the first ones

In `name`, {word} is the value of `vary.word`; by default the name is the family with these values.
A table in `vary` with a `name` of its own stands for its other keys. A key of a row, of a setting
or of `vary` is an argument of the family, a field of `TrainConfig`, `network.key` or `data.key`; in
a row and in `vary`, also `seeds`. `neurons_from = "row:NAME"` is the final run of that row with the
same seed; in a search, the run of that row's best setting.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.files import toml_of
from lnm_codegen.train.names import is_reference, require_names
from lnm_codegen.train.runs.config import (
    AUTO,
    MEASURED,
    OWN,
    TrainConfig,
    config_of,
    config_of_tables,
    place_v_min,
)
from lnm_codegen.validation import (
    did_you_mean,
    is_integer,
    require_integer,
    require_known,
    require_one_of,
    require_type,
    wrong,
)

TABLES: Mapping[str, tuple[str, ...]] = {
    "data": (), "network": (), "train": (), "row": (),
    "search": ("validation", "epochs", "seeds"), "final": ("seeds", "reference"),
}  # fmt: skip
"""Table of a plan -> its keys; none for those that others read."""
_TRAIN_FIELDS = {f.name for f in fields(TrainConfig)} - {"family", "arguments", "v_min", "seed"}
_OF_THIS_MACHINE = ("seed", "data_dir", "threads", "tensorboard")
"""Fields that do not tell one plan from another: the results have a column for the seed."""
FROM_ROW = "row:"


@dataclass(frozen=True)
class PlanRow:
    """A neuron and its searched settings.

    Attributes:
        name: Its name in the table.
        config: Its config, before a setting changes it.
        settings: The config of each setting; one without a search.
        shown: The keys and values of each setting as text.
        seeds: Its final seeds.
    """

    name: str
    config: TrainConfig
    settings: tuple[TrainConfig, ...]
    shown: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class PlannedRun:
    """One run: `phase` is "search" or "final", `setting` an index into the settings of the row."""

    row: str
    phase: str
    setting: int
    seed: int
    config: TrainConfig

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Identity of the run within its plan."""
        return self.row, self.phase, self.setting, self.seed

    @property
    def after(self) -> str | None:
        """The row whose run of the same seed this run starts from."""
        return _first_of(self.config)

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        return f"{_folder(self.row)}_{self.phase}{self.setting}_seed{self.seed}"

    @property
    def recorded(self) -> str:
        """The options that determine the run, with its seed: those without their default."""
        default, own = TrainConfig().as_json(), self.config.as_json()
        kept = {k: v for k, v in own.items() if v != default[k] and k not in _OF_THIS_MACHINE}
        return json.dumps(kept, sort_keys=True, default=str)


@dataclass(frozen=True)
class ComparisonPlan:
    """Neurons, settings and seeds of a comparison: see `read_plan`.

    Attributes:
        name: Name of its file.
        rows: The neurons.
        seeds: Final seeds.
        reference: Name of the row that the others are compared with.
        search_seeds: Seeds of the search.
        validation: Number of samples held out in the search.
        search_epochs: Length of the runs of the search; None is that of the final runs.
    """

    name: str
    rows: tuple[PlanRow, ...]
    seeds: tuple[int, ...]
    reference: str
    search_seeds: tuple[int, ...] = (0,)
    validation: int = 0
    search_epochs: int | None = None

    def searches(self) -> list[PlannedRun]:
        """Return the runs of the search, the same setting of every row before the next setting."""
        most = max(len(row.settings) for row in self.rows)
        return [
            self.run_of(row.name, "search", k, seed)
            for seed in self.search_seeds
            for k in range(most)
            for row in self.rows
            if k < len(row.settings) > 1
        ]

    def finals(self, settings: Mapping[str, int], most: int | None = None) -> list[PlannedRun]:
        """Return the final runs of the rows with a setting, seed by seed: of the first `most`."""
        return [
            self.run_of(row.name, "final", settings[row.name], seed)
            for seed in self.seeds[:most]
            for row in self.rows
            if row.name in settings and seed in row.seeds
        ]

    def run_of(self, row: str, phase: str, setting: int, seed: int) -> PlannedRun:
        """Return a run of a row; a search trains on fewer samples, for as long as it says."""
        config = replace(self.row(row).settings[setting], seed=seed)
        if phase == "search":
            epochs = self.search_epochs or config.epochs
            config = replace(config, validation=self.validation, epochs=epochs)
        return PlannedRun(row, phase, setting, seed, config)

    def row(self, name: str) -> PlanRow:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)

    def names(self, text: str | None = None) -> list[str]:
        """Return the row `text`, or all rows whose name contains it.

        Raises:
            ModelError: There is none.
        """
        names = [row.name for row in self.rows]
        found = [text] if text in names else [name for name in names if (text or "") in name]
        if not found:
            require_known(f"compare: {self.name}", "row", text, names)
        return found

    def require_names(self, rows: Sequence[str], data_dir: Path | None = None) -> None:
        """Refuse a plan some of whose rows name a neuron, network or data set that does not exist.

        Raises:
            ModelError: No such name, or arguments that the family refuses.
            ToolError: No such folder of data.
        """
        known: list[TrainConfig] = []
        for name in rows:
            for config in self.row(name).settings:
                named = TrainConfig(
                    config.family, config.arguments, config.v_min, config.network,
                    data=config.data, data_dir=data_dir or config.data_dir,
                )  # fmt: skip
                if named not in known:
                    known.append(named)
                    try:
                        require_names(named)
                    except ModelError as error:
                        raise error.within(f"{self.name}: {name}") from None


def read_plan(file: str | Path) -> ComparisonPlan:
    """Return the plan of a TOML file, in the format of docs/howto/compare.md.

    Raises:
        ModelError: No such file, no TOML, or a key or value that is not accepted; the message
            names the file and the row.
    """
    path = Path(file)
    return plan_of(toml_of(path), path.stem, str(path))


def plan_of(content: Mapping[str, Any], name: str, where: str = "plan") -> ComparisonPlan:
    """Return the plan of the tables of such a file. Messages begin with `where`.

    Raises:
        ModelError: A key or value is not accepted.
    """
    for key, table in content.items():
        known = TABLES[require_known(where, "table", key, TABLES)]
        kind, accepted = (list, "tables [[row]]") if key == "row" else (dict, f"a table [{key}]")
        require_type(where, key, table, kind, accepted)
        for word in table if known else ():
            require_known(f"{where}: {key}", "key", word, known)
    if "seed" in content.get("train", {}):
        raise ModelError(f"{where}: train", "seed is given", remedy="Give seeds in [final].")
    base = {key: content.get(key, {}) for key in ("data", "network", "train")}
    base["train"] = {"evaluate_every": 0, **base["train"]}
    search, final = content.get("search", {}), content.get("final", {})
    if "seeds" not in final:
        raise ModelError(f"{where}: final", "no seeds", "seeds = 3, or a list of integers")
    seeds = _seeds(f"{where}: final", final["seeds"])
    config = config_of_tables(base, where)
    rows = [
        row
        for number, table in enumerate(content.get("row", ()), 1)
        for row in _rows(table, number, config, seeds, where)
    ]
    _require_rows(where, rows)
    reference = final.get("reference", rows[0].name)
    require_known(f"{where}: final: reference", "row", reference, [row.name for row in rows])
    plan = ComparisonPlan(
        name, tuple(rows), seeds, reference,
        _seeds(f"{where}: search", search.get("seeds", [0])),
        require_integer(f"{where}: search", "validation", search.get("validation", 0), 0),
        require_integer(f"{where}: search", "epochs", search.get("epochs"), optional=True),
    )  # fmt: skip
    try:
        plan.searches()
    except ModelError as error:  # a warm-up that is longer than the search, say
        raise error.within(f"{where}: search") from None
    return plan


def _seeds(where: str, value: Any) -> tuple[int, ...]:
    if is_integer(value) and value >= 1:
        return tuple(range(value))
    is_list = isinstance(value, list | tuple) and value
    if not is_list or not all(is_integer(s) and 0 <= s < 2**63 for s in value):
        raise wrong(where, "seeds", value, "a number >= 1 of seeds, or a list of integers >= 0")
    twice = next((seed for seed in value if value.count(seed) > 1), None)
    if twice is not None:
        raise ModelError(where, f"seed {twice} is given twice", remedy="Give each seed once.")
    return tuple(value)


def _rows(
    table: Any, number: int, base: TrainConfig, seeds: tuple[int, ...], where: str
) -> list[PlanRow]:
    place = f"{where}: row {number}"
    require_type(where, f"row {number}", table, dict, "a table [[row]]")
    table = dict(table)
    name, vary = table.pop("name", None), table.pop("vary", {})
    settings = table.pop("settings", [{}])
    require_type(place, "vary", vary, dict, "a table of lists")
    for word, values in vary.items():
        if not isinstance(values, list) or not values:
            raise wrong(place, f"vary.{word}", values, "a list of one or more values")
    if not isinstance(settings, list) or not settings or not all(map(_is_table, settings)):
        raise wrong(place, "settings", settings, "a list of one or more tables")
    rows = []
    for values in itertools.product(*vary.values()):
        words = dict(w for k, v in zip(vary, values, strict=True) for w in _words(k, v))
        chosen = dict(table)
        for key, value in zip(vary, values, strict=True):
            is_named = _is_table(value) and "name" in value
            chosen |= {k: v for k, v in value.items() if k != "name"} if is_named else {key: value}
        if "family" not in chosen and is_reference(str(chosen.get("network", base.network))):
            chosen |= {"family": OWN, "v_min": None}  # the network has its neurons
        if not isinstance(chosen.get("family"), str):
            problem = "no neuron" if "family" not in chosen else f"family is {chosen['family']!r}"
            remedy = 'Give its family, such as family = "lif", or network = "file.py:Net".'
            raise ModelError(place, problem, remedy=remedy)
        title = _named(
            place, _default_name(chosen["family"], words) if name is None else name, words
        )
        count = require_integer(
            f"{place}: {title}", "seeds", chosen.pop("seeds", len(seeds)), 1, len(seeds)
        )
        config = _changed(base, chosen, f"{where}: {title}")
        rows.append(
            PlanRow(
                title,
                config,
                tuple(_changed(config, s, f"{where}: {title}") for s in settings),
                tuple(", ".join(f"{k} = {v}" for k, v in s.items()) for s in settings),
                seeds[:count],
            )
        )
    return rows


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _changed(config: TrainConfig, changes: Mapping[str, Any], where: str) -> TrainConfig:
    """Return a config with the keys of a row or of a setting."""
    flat = config.as_json()
    for key, given in changes.items():
        value = None if given == "none" else given
        table, dot, word = key.partition(".")
        if key in ("seed", "seeds"):
            raise ModelError(where, f"{key} is given", remedy="Give seeds in [final].")
        if key in ("family", "v_min") or key in _TRAIN_FIELDS:
            flat[key] = value
        elif dot:
            require_one_of(where, "the table of a key", table, ("network", "data"))
            flat[f"{table}_arguments"] = {**flat[f"{table}_arguments"], word: value}
        else:
            flat["arguments"] = {**flat["arguments"], key: value}
    if (family := FAMILIES.get(flat["family"])) is not None:
        known = [*family.signature.parameters, "family", "v_min", *_TRAIN_FIELDS]
        for key in flat["arguments"]:
            if key not in known:
                accepted = f"an argument of {flat['family']}, a field of [train], network.KEY"
                problem, hint = f"no key {key!r}", did_you_mean(key, known)
                raise ModelError(where, problem, f"{accepted}, data.KEY", hint)
    if "v_min" in changes:
        place_v_min(flat)
    for name in MEASURED:
        if flat[name] == AUTO:  # each run would measure for itself, beside others
            problem = f"{name} is {AUTO!r}, and all runs of a plan need the same"
            raise ModelError(where, problem, remedy="Name the one that lnm train finds fastest.")
    return config_of(flat, where)


def _words(key: str, value: Any) -> list[tuple[str, str]]:
    """Return the values of {key} in a name, or of {key_part} if the value is a table."""
    word = key.replace(".", "_")
    if _is_table(value) and "name" in value:
        return [(word, str(value["name"]))]
    if _is_table(value):
        return [(f"{word}_{k}", str(v)) for k, v in value.items()]
    if key == "v_reset":
        return [(word, "soft" if value == "none" else "hard")]
    return [(word, str(value))]


def _default_name(family: str, words: Mapping[str, str]) -> str:
    return ", ".join([family, *(f"{w} {{{w}}}" for w in words if w != "family")])


def _named(where: str, name: Any, words: Mapping[str, str]) -> str:
    require_type(where, "name", name, str, "text")
    for word in re.findall(r"\{(.*?)\}", name):
        require_known(f"{where}: name {name!r}", "word of vary", word, words)
    return re.sub(r"\{(.*?)\}", lambda found: words[found[1]], name)


def _folder(row: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in row)


def _first_of(config: TrainConfig) -> str | None:
    name = str(config.neurons_from or "")
    return name.removeprefix(FROM_ROW) if name.startswith(FROM_ROW) else None


def _require_rows(where: str, rows: Sequence[PlanRow]) -> None:
    """Refuse names that occur twice, and rows that start from rows that do not exist."""
    if not rows:
        raise ModelError(where, "no row", remedy='Add [[row]] and family = "lif".')
    folders: dict[str, str] = {}
    for row in rows:
        other = folders.setdefault(_folder(row.name), row.name)
        if other == row.name and sum(r.name == row.name for r in rows) > 1:
            remedy = "Give each row a name; {word} in it is the value of vary.word."
            raise ModelError(where, f"the row {row.name!r} occurs twice", remedy=remedy)
        if other != row.name:
            problem = f"rows {other!r} and {row.name!r} differ in punctuation alone"
            raise ModelError(where, problem, remedy="Give them other names.")
    firsts = {row.name: _first_of(row.config) for row in rows}
    for name, first in firsts.items():
        seen = [name]
        while first is not None:
            require_known(f"{where}: {seen[-1]}: neurons_from", "row", first, firsts)
            if first in seen:
                problem = f"neurons_from leads back to {first!r}"
                raise ModelError(f"{where}: {name}", problem, remedy="Start from another row.")
            seen.append(first)
            first = firsts[first]
