"""`ablate`: what is left out, what is shared, what is printed, and what cannot be left out."""

from pathlib import Path

import pytest
import yaml

from edgepress.errors import UserError
from edgepress.measure.record import Ablation
from edgepress.pipeline.ablation import AblationOutcome, ablate
from edgepress.recipe import load
from edgepress.recipe.ablation import WITHOUT, variants
from edgepress.recipe.steps import STEP_KINDS
from edgepress.report.ablation import ablation_markdown, verdict


class Listening:
    """A reporter that remembers what was made and what was reused."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.told: list[str] = []

    def step(self, number: int, total: int, name: str) -> None:
        self.name = name

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None:
        if not reused:
            self.made.append(self.name)

    def tell(self, text: str) -> None:
        self.told.append(text)

    def progress(self, text: str) -> None: ...


def run(recipe: Path, *overrides: str, seeds: int = 1) -> tuple[AblationOutcome, Listening]:
    reporter = Listening()
    settings = ["measure={latency: null, memory: false, energy: false}", *overrides]
    loaded = load(recipe, settings)
    return ablate(loaded, recipe.parent / "run", seeds=seeds, device="cpu", reporter=reporter), reporter


def test_the_table_of_ingredients_names_settings_that_exist() -> None:
    kinds = {kind.kind: kind for kind in STEP_KINDS}
    for kind, settings in WITHOUT.items():
        assert settings.keys() <= kinds[kind].model_fields.keys()


def test_every_step_and_every_ingredient_that_is_on(project: Path) -> None:
    losses = "{losses: [{loss: task}, {loss: kd}, {loss: hint}]}"
    recipe = load(project, ["steps.0.prune.reconstruct=true", f"steps.1.train.distill={losses}"])
    found = {v.name: v for v in variants(recipe)}
    assert list(found) == [
        "1 prune", "1 prune.reconstruct", "2 train", "2 train.distill", "2 train.distill.task", "2 train.distill.kd",
        "2 train.distill.hint", "3 quantize", "4 export",
    ]  # fmt: skip
    assert found["4 export"].recipe is None and "no artifact" in found["4 export"].reason
    alone = found["2 train"].recipe
    assert alone is not None and [item.kind for item in alone.steps] == ["prune", "quantize", "export"]
    kept = found["2 train.distill.kd"].recipe.steps[1].config.distill  # type: ignore[union-attr,attr-defined]
    assert [loss.loss for loss in kept.losses] == ["task", "hint"]


def test_what_cannot_be_left_out_says_why(project: Path) -> None:
    content = yaml.safe_load(project.read_text())
    content["steps"] = [{"quantize": {}}, {"export": {"format": "onnx"}}]
    project.write_text(yaml.safe_dump(content))
    assert "the only step" in variants(load(project))[0].reason
    content["steps"] = [{"train": {}}, {"quantize": {}}, {"export": {"format": "c"}}]
    project.write_text(yaml.safe_dump(content))
    assert "integers only" in {v.name: v.reason for v in variants(load(project))}["2 quantize"]


def test_a_whole_ablation(project: Path) -> None:
    outcome, reporter = run(project)
    table = outcome.ablation
    assert [row.name for row in table.rows] == [
        "1 prune", "2 train", "2 train.distill", "2 train.distill.task", "3 quantize", "4 export",
    ]  # fmt: skip
    rows = {row.name: row for row in table.rows}
    assert reporter.made.count("import") == reporter.made.count("baseline") == reporter.made.count("prune") == 1
    assert rows["1 prune"].figures["macs"] > table.whole.figures["macs"]
    assert rows["3 quantize"].figures["size_bytes"] > 1.5 * table.whole.figures["size_bytes"]
    for row in table.rows[:-1]:
        assert row.gain is not None and row.low is not None and row.high is not None and row.p_value is not None
        expected = table.whole.figures["accuracy"] - row.figures["accuracy"]
        assert row.gain == pytest.approx(expected) and row.low <= row.gain <= row.high
    assert rows["4 export"].gain is None and rows["4 export"].reason
    stored = project.parent / "run"
    assert Ablation.model_validate_json((stored / "ablation.json").read_bytes()) == table
    other = stored / "ablation" / "seed-3" / "without-1-prune" / "evidence.json"
    assert other.is_file()
    text = ablation_markdown(table)
    assert "1 prune" in text and "cannot be left out" in text and "McNemar" in text
    _, again = run(project)
    assert again.made == []


def test_the_whole_recipe_is_an_ordinary_run(project: Path) -> None:
    from edgepress.pipeline.run import execute

    outcome, _ = run(project)
    reporter = Listening()
    recipe = load(project, ["measure={latency: null, memory: false, energy: false}"])
    alone = execute(recipe, project.parent / "run", dry_run=False, device="cpu", reporter=reporter)
    assert reporter.made == []
    assert alone.evidence is not None and outcome.whole.evidence is not None
    assert alone.evidence.compressed == outcome.whole.evidence.compressed


def test_several_seeds(project: Path) -> None:
    outcome, _ = run(project, "steps.1.train.epochs=1", seeds=2)
    table = outcome.ablation
    assert table.seeds == (3, 4) and "2 seeds" in table.method
    row = next(row for row in table.rows if row.name == "2 train")
    assert row.p_value is None and row.low is not None and row.gain is not None
    assert row.low < row.gain < row.high  # type: ignore[operator]
    assert (project.parent / "run" / "ablation" / "seed-4" / "evidence.json").is_file()


def test_a_variant_that_does_not_work_says_so(project: Path) -> None:
    outcome, _ = run(project, "data.train.targets=null", "steps.1.train.distill={weight: 1.0}")
    row = next(row for row in outcome.ablation.rows if row.name == "2 train.distill")
    assert row.gain is None and "does not work without it" in row.reason and "targets" in row.reason


def test_without_evaluation_data_there_is_nothing_to_compare(project: Path) -> None:
    recipe = load(project, ["measure={accuracy: false, latency: null}"])
    with pytest.raises(UserError, match="compares accuracies"):
        ablate(recipe, project.parent / "run", seeds=1, device="cpu", reporter=Listening())


def test_verdicts() -> None:
    from edgepress.measure.record import AblationRow

    def row(low: float | None, high: float | None) -> AblationRow:
        return AblationRow(name="x", gain=0.0, low=low, high=high)

    assert [verdict(row(*limits)) for limits in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1), (None, None))] == [
        "helps", "hurts", "no clear effect", "no clear effect",
    ]  # fmt: skip
