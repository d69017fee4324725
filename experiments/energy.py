"""Energy of an inference of every trained network, beside LIF in the same network (experiment 3).

    python experiments/energy.py mnist1d_feedforward --against "LIF, hard"
    python experiments/energy.py --write docs/results.md      the tables of the page anew

Reads the run folders of the final runs and adds what it counts to results/energy.csv, a line for
each network; a network that has its line is not counted again. Counts are means over the test set.
The last two columns of the table take the network's mean rate, and LIF's, to the layer sizes of
ResNet-19 (T = 4, CIFAR); only they stand beside figures derived for that network.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lnm_codegen.errors import LnmError
from lnm_codegen.train import load_run
from lnm_codegen.train.energy import EnergyReport, energy
from lnm_codegen.train.energy_cost import CONVENTIONS
from lnm_codegen.train.energy_resnet19 import resnet19_overhead

sys.path.insert(0, str(Path(__file__).parent))
import results
from plan import Job, read_plan
from run import folder_of

COLUMNS = (
    "plan", "row", "seed", "degree", "mac", "ac", "spikes", "rate", "updates",
    *(f"{part}_{by.name}" for by in CONVENTIONS for part in ("updates_pj", "driven_pj")),
)  # fmt: skip


def main() -> None:
    """Read the arguments; count, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", nargs="?")
    parser.add_argument("--against", default="LIF", help="the row of the overheads")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write a page's tables anew")
    options = parser.parse_args()
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(filled(page), encoding="utf-8")
    elif options.plan is None:
        parser.error("no experiment named")
    else:
        count(options.plan)
        print("\n".join(table(options.plan, options.against)))


def path_of() -> Path:
    return results.FOLDER / "energy.csv"


def lines_of(plan: str) -> list[dict[str, str]]:
    """Return what has been counted of a plan."""
    if not path_of().is_file():
        return []
    with path_of().open(newline="", encoding="utf-8") as file:
        return [line for line in csv.DictReader(file) if line["plan"] == plan]


def count(name: str) -> None:
    """Count every final run that has a folder here and no line yet."""
    plan = read_plan(name)
    done = {(line["row"], int(line["seed"])) for line in lines_of(name)}
    for job in plan.finals(results.chosen(plan, results.read(name))):
        if (job.row, job.seed) not in done and folder_of(job).is_dir():
            try:
                run = load_run(folder_of(job))
            except LnmError as error:
                print(f"{job.row} seed {job.seed}: {error}", file=sys.stderr)
                continue
            add(job, energy(run.network, run.data))


def add(job: Job, found: EnergyReport) -> None:
    """Write the line of a network."""
    line: dict[str, Any] = {
        "plan": job.plan, "row": job.row, "seed": job.seed,
        "degree": job.config.arguments.get("degree", ""), "mac": round(found.mac),
        "ac": round(found.ac), "spikes": round(found.spikes, 1), "rate": round(found.rate, 5),
        "updates": round(sum(layer.updates for layer in found.neurons)),
    }  # fmt: skip
    for by in CONVENTIONS:
        line[f"updates_pj_{by.name}"] = round(found.updates(by).total, 1)
        line[f"driven_pj_{by.name}"] = round(found.driven(by).total, 1)
    new = not path_of().is_file()
    with path_of().open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(line)


def table(plan: str, against: str) -> list[str]:
    """Return the table of a plan: means over seeds, overheads over the row `against`."""
    lines = lines_of(plan)
    names = list(dict.fromkeys(line["row"] for line in lines))
    heads = [f"over {against}, {by.name}" for by in CONVENTIONS]
    head = ["neuron", "seeds", "MAC", "AC", "spikes", "rate", *heads]
    head += ["ResNet-19, same rates", "ResNet-19, these rates"]
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    base = [line for line in lines if line["row"] == against]
    for name in names:
        mine = [line for line in lines if line["row"] == name]
        cells = [name, str(len(mine))]
        cells += [f"{mean(mine, word):,.0f}" for word in ("mac", "ac", "spikes")]
        cells += [f"{mean(mine, 'rate'):.3f}"]
        cells += [over(mine, base, by.name) for by in CONVENTIONS]
        cells += on_resnet19(mine, base)
        table.append(f"| {' | '.join(cells)} |")
    return table


def mean(lines: Iterable[dict[str, str]], word: str) -> float:
    return statistics.mean(float(line[word]) for line in lines)


def over(mine: list[dict[str, str]], base: list[dict[str, str]], by: str) -> str:
    """Return the overhead: of the neurons' updates, and of what spikes drive."""
    if not base:
        return ""
    words = [f"{part}_pj_{by}" for part in ("updates", "driven")]
    whole = sum(mean(base, word) for word in words)
    parts = [100 * (mean(mine, word) - mean(base, word)) / whole for word in words]
    return f"{sum(parts):+.1f} % ({parts[0]:+.1f} neurons, {parts[1]:+.1f} spikes)"


def on_resnet19(mine: list[dict[str, str]], base: list[dict[str, str]]) -> list[str]:
    """Return the overhead at LIF's rate, and at both networks' own."""
    degree = mine[0]["degree"]
    if not degree or not base:
        return ["", ""]
    own, lif = mean(mine, "rate"), mean(base, "rate")
    same = resnet19_overhead(lif, int(degree))
    both = resnet19_overhead(own, int(degree), baseline_rates=lif)
    return [f"{same.total:+.1f} %", f"{both.total:+.1f} %"]


def filled(page: str) -> str:
    """Return the text of a page with its energy tables as they are counted so far."""

    def one(match: re.Match[str]) -> str:
        lines = table(match["name"], match["against"])
        return "\n".join([match["head"], "", *lines, "", "<!-- end -->"])

    head = r"(?P<head><!-- energy: (?P<name>\w+) against (?P<against>.+?) -->)"
    return re.sub(head + r".*?<!-- end -->", one, page, flags=re.DOTALL)


if __name__ == "__main__":
    main()
