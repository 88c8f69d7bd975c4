"""Take every family through its recipe, and write down what it cost before and after.

    python benchmarks/families/run.py [NAME ...]      (all of them: `make families`)

Each recipe of recipes/families runs as `edgepress run` would run it, into build/families/runs/NAME: a run that was
interrupted goes on where it stopped. The networks come from recipes/families/prepare.py. Results:
benchmarks/families/results/NAME.json and the table docs/families.md. A step that a recipe leaves out is tried on the
original network as well, and what refuses it is written down.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepress.errors import EdgepressError
from edgepress.measure.record import Evidence, Measurement, Subject
from edgepress.pipeline.run import execute
from edgepress.recipe import Recipe, load, parse_recipe, resolved_yaml
from edgepress.train.tasks import get

ROOT = Path(__file__).resolve().parents[2]
RECIPES, RUNS = ROOT / "recipes" / "families", ROOT / "build" / "families" / "runs"
RESULTS, TABLE = ROOT / "benchmarks" / "families" / "results", ROOT / "docs" / "families.md"
STEPS = {"prune": {"reduce": {"macs": 0.25}}, "quantize": {"scheme": "int8"}}
FIGURES = ("size_bytes", "macs", "params", "latency_ms")


class Quiet:
    """Prints finished steps only."""

    def step(self, number: int, total: int, name: str) -> None:
        self._name = name

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None:
        print(f"  {self._name}: {summary}", flush=True)

    def tell(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def progress(self, text: str) -> None:
        pass


def run_family(name: str) -> dict[str, Any]:
    """The row of one family."""
    recipe = load(RECIPES / f"{name}.yaml")
    title = (RECIPES / f"{name}.yaml").read_text().splitlines()[:2]
    row: dict[str, Any] = {"family": name, "about": [line.removeprefix("# ") for line in title], "task": recipe.task}
    row["steps"] = [item.kind for item in recipe.steps]
    row["refused"] = {kind: why for kind in STEPS if kind not in row["steps"] if (why := _refusal(recipe, kind))}
    evidence = execute(recipe, RUNS / name, dry_run=False, device="cpu", reporter=Quiet()).evidence
    assert evidence is not None, "not a dry run"
    return row | figures(recipe, evidence)


def figures(recipe: Recipe, evidence: Evidence) -> dict[str, Any]:
    """What a finished run found out."""
    row: dict[str, Any] = {}
    task = get(recipe.task, recipe.metric)
    metric = task.metric
    row |= {"metric": metric, "higher_is_better": task.higher_is_better}
    for subject in (evidence.baseline, evidence.compressed):
        row[subject.name] = {figure: _value(subject, figure) for figure in (*FIGURES, metric)}
    names = _numbered([step.kind for step in evidence.steps])
    row["done"] = {name: step.summary for name, step in zip(names, evidence.steps, strict=True)}
    row["after"] = {
        name: step.after[metric] for name, step in zip(names, evidence.steps, strict=True) if step.kind != "export"
    }
    row["left_out"] = _left_out(evidence)
    row["environment"] = evidence.environment.model_dump(mode="json")
    return row


def _numbered(kinds: Sequence[str]) -> list[str]:
    """A kind of step that comes again says which time it is."""
    times = [kinds[: i + 1].count(kind) for i, kind in enumerate(kinds)]
    return [kind if time == 1 else f"{kind}, time {time}" for kind, time in zip(kinds, times, strict=True)]


def _refusal(recipe: Recipe, kind: str) -> str:
    """What a dry run of the missing step alone says, "" if it would work."""
    document = json.loads(json.dumps({**_plain(recipe), "steps": [{kind: STEPS[kind]}]}))
    try:
        alone = parse_recipe(json.dumps(document), name=recipe.name, base=RECIPES)
        plans = execute(alone, RUNS / "none", dry_run=True, device="cpu", reporter=Quiet()).plans
    except EdgepressError as error:
        return str(error).replace("\n", ";")
    reasons = [line.strip() for plan in plans for line in plan.splitlines() if line.startswith("  refused")]
    return "; ".join(dict.fromkeys(reasons))


def _plain(recipe: Recipe) -> dict[str, Any]:
    import yaml

    plain: dict[str, Any] = yaml.safe_load(resolved_yaml(recipe))
    return plain


def _left_out(evidence: Evidence) -> list[str]:
    """Refusals inside steps that did something, each reason once, with how often it was given."""
    reasons = [(step.kind, *_without_names(r.found, r.needed)) for step in evidence.steps for r in step.refusals]
    counted = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    return [f"{kind}, {n} nodes: found {found}; needed {needed}" for (kind, found, needed), n in counted.items()]


def _without_names(found: str, needed: str) -> tuple[str, str]:
    """Reasons that differ only in the name of a neighbour are one reason."""
    if re.fullmatch(r"its input \S+ is float", found):
        return "an input that is float", "integers there"
    return re.sub(r"with the (weight|number) \S+", r"with a \1", found), needed


def _value(subject: Subject, name: str) -> float | None:
    found: Sequence[Measurement] = [m for m in subject.measurements if m.name == name]
    return found[0].value if found else None


# -- the table ---------------------------------------------------------------------------------------------------------

INTRODUCTION = """# Families

One small network of each family that people deploy, taken through the whole pipeline: prune, distill, quantize, export
to ONNX, measure. Made by `make families`; the recipes are in `recipes/families/`, the figures with the machine they
were taken on in `benchmarks/families/results/`.

Sizes are those of the exported file. Latency is the median at batch 1 in onnxruntime, one thread, with other work on
the machine: run the command for your own. Networks of a few microseconds gain bytes from integers, but no time; their
reports say so, and `when_slower: float` in a recipe keeps such networks float. MACs are counted on the graph; they do
not fall by quantization. Every task metric was taken in onnxruntime on held-out data, before and after.

How to read it: metrics are those of one seed on 200 to 3,000 test samples, so that differences of a point are mostly
noise (at an accuracy of 0.9, one standard error is 0.9 points on 1,000 samples). "No epoch was better on the held-out
samples" means that the least-squares refit of pruning left nothing to recover, and that the guard kept the weights it
had. What the recurrent networks lose, they lose to the cut: half of their multiplications, of networks of 32 units. The
policy's error doubles, from 0.7 % to 1.4 % of the variance of the force: its four states share one grid of 8 bits.
Recipes of eight families (lstm, gru, policy, decoder, detector, gan, resnet, vit) were adjusted once or twice with
these test figures in sight: what they keep is a little optimistic.
"""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The document: one line per family, then what each one is and what was refused."""
    lines = [INTRODUCTION, "| family | steps | size, KiB | MACs, thousands | latency, ms | metric | before | after |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [_line(row) for row in rows]
    return "\n".join([*lines, "", *(_paragraph(row) for row in rows)])


def _line(row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"| {row['family']} | {', '.join(row['steps'])} | did not finish, see below | | | | | |"
    before, after = row["baseline"], row["compressed"]
    cells = [
        row["family"],
        ", ".join(step for step in row["steps"] if step != "export"),
        _both(before["size_bytes"], after["size_bytes"], 1024, 1),
        _both(before["macs"], after["macs"], 1000, 1),
        _both(before["latency_ms"], after["latency_ms"], 1, 3),
        row["metric"],
        *(f"{side[row['metric']]:.4g}" for side in (before, after)),
    ]
    return "| " + " | ".join(cells) + " |"


def _both(before: float | None, after: float | None, unit: float, digits: int) -> str:
    return " → ".join("unknown" if v is None else f"{v / unit:,.{digits}f}" for v in (before, after))


def _paragraph(row: Mapping[str, Any]) -> str:
    lines = [f"## {row['family']}", "", " ".join(row["about"]), ""]
    after = {kind: f" ({row['metric']} {value:.4f})" for kind, value in row.get("after", {}).items()}
    lines += [f"- {kind}: {summary}{after.get(kind, '')}" for kind, summary in row.get("done", {}).items()]
    lines += [f"- {kind} refused: {why}" for kind, why in row.get("refused", {}).items()]
    lines += [f"- left out by {reason}" for reason in row.get("left_out", [])]
    lines += [f"- failed: {row['failed']}"] if "failed" in row else []
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="families; all of them without a name")
    names = parser.parse_args().names or sorted(path.stem for path in RECIPES.glob("*.yaml"))
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        print(name, flush=True)
        try:
            row = run_family(name)
        except EdgepressError as error:
            row = _failed(name, error)
            print(f"  {row['failed']}", flush=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
    rows = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    TABLE.write_text(table(rows))


def _failed(name: str, error: EdgepressError) -> dict[str, Any]:
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()[:2]
    steps = [item.kind for item in load(RECIPES / f"{name}.yaml").steps]
    about = [line.removeprefix("# ") for line in lines]
    return {"family": name, "about": about, "steps": steps, "failed": str(error).replace("\n", "; ")}


if __name__ == "__main__":
    main()
