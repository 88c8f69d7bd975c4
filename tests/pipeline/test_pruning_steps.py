"""Sparsity and budgets on time, through whole recipes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepress.errors import UserError
from edgepress.ir import Program, load
from edgepress.passes.mask_weights import masks_of
from edgepress.pipeline.bench import Bench
from edgepress.pipeline.run import execute, set_up, steps_of
from edgepress.pipeline.steps import RUNNERS, StepResult
from edgepress.pipeline.steps.step import Workplace
from edgepress.recipe import load as load_recipe
from edgepress.targets.emulate import deploy, why_not

ATTENTION = """
import torch
from torch import nn
from torch.nn import functional as F

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out, self.head = (nn.Linear(a, b) for a, b in ((6, 8), (8, 24), (8, 8), (8, 4)))

    def forward(self, image):
        x = self.embed(image[:, 0])
        q, k, v = (z.unflatten(-1, (2, 4)).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + self.out(y)).mean(1))

def tiny():
    torch.manual_seed(0)
    return Attention()
"""


class Silent:
    """A reporter that says nothing."""

    def step(self, number: int, total: int, name: str) -> None: ...

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...

    def tell(self, text: str) -> None: ...

    def progress(self, text: str) -> None: ...


def with_steps(project: Path, steps: str) -> Path:
    """The recipe with other steps."""
    before, _, rest = project.read_text().partition("steps:\n")
    project.write_text(f"{before}steps:\n{steps}\nmeasure:{rest.split('measure:')[1]}")
    return project


def take(project: Path, place: Workplace) -> tuple[StepResult, Bench]:
    """The first step alone."""
    recipe = load_recipe(project, [])
    bench = set_up(recipe, "cpu", Silent())
    kind, config = steps_of(recipe)[0]
    return RUNNERS[kind](config, bench.original, bench, place), bench


def zero_share(program: Program, name: str = "b.weight") -> float:
    return float((program.state()[name] == 0).double().mean())


def test_zeros_survive_training_and_quantization(project: Path, tmp_path: Path) -> None:
    steps = (
        "  - sparsify: {sparsity: 0.7}\n  - train: {epochs: 1, batch_size: 32}\n"
        "  - quantize: {samples: 64}\n  - export: {format: onnx}"
    )
    out = tmp_path / "run"
    execute(load_recipe(with_steps(project, steps), []), out, dry_run=False, device="cpu", reporter=Silent())
    sparse, trained = (load(next(out.glob(f"steps/*-{kind}-*")) / "program") for kind in ("sparsify", "train"))
    assert zero_share(sparse) == pytest.approx(0.7, abs=0.01)
    assert set(masks_of(trained)) == {"a.weight", "b.weight", "head.weight"}
    assert bool((sparse.state()["b.weight"] == trained.state()["b.weight"]).double().mean() < 1), "it learned"
    assert zero_share(trained) == zero_share(sparse)
    model = onnx.load(next(out.glob("steps/*-export-*")) / "model.onnx")
    integers = [numpy_helper.to_array(t) for t in model.graph.initializer if tuple(t.dims) == (16, 16, 3, 3)]
    assert [float((t == 0).mean()) >= zero_share(trained) for t in integers] == [True]


def test_the_step_counts_bytes_and_says_that_this_runtime_does_not_profit(project: Path) -> None:
    result, _ = take(with_steps(project, "  - sparsify: {pattern: '2:4', ignore: [^head]}"), Workplace(None, None))
    assert "computes zeros like any number" in result.summary
    assert result.facts["compressed_bytes"] < result.facts["dense_bytes"]
    assert zero_share(result.program) == 0.5
    assert zero_share(result.program, "head.weight") < 0.1
    assert "a.weight" in {r.node for r in result.refusals}, "nine inputs are no multiple of four"
    assert "b.weight: 1,152 of 2,304 zero" in result.plan


def test_gradual_sparsity_ends_where_it_was_told(project: Path, tmp_path: Path) -> None:
    (tmp_path / "step").mkdir()
    steps = with_steps(project, "  - sparsify: {sparsity: 0.8, epochs: 2, batch_size: 32}")
    result, bench = take(steps, Workplace(tmp_path / "step", None))
    assert zero_share(result.program) == pytest.approx(0.8, abs=0.01)
    assert set(masks_of(result.program)) == {"a.weight", "b.weight", "head.weight"}
    kept = result.program.state()["b.weight"] != 0
    assert bool((result.program.state()["b.weight"] != bench.original.state()["b.weight"])[kept].all()), "it learned"


def test_a_latency_budget_is_measured_on_the_target(project: Path) -> None:
    wide = project.read_text().replace("factory: net.py:tiny", "factory: net.py:tiny\n  kwargs: {width: 96}")
    project.write_text(wide.replace("shape: [1, 6, 6]", "shape: [1, 6, 6]"))
    steps = "  - prune: {criterion: l2, reduce: {latency: 0.3}, round_to: 4, reconstruct: false}"
    result, _ = take(with_steps(project, steps), Workplace(None, None))
    assert result.changed
    assert result.facts["latency_share"] < 0.9  # a busy machine moves it, but not back to where it was
    assert "of the time on local-cpu" in result.summary


def test_time_on_an_emulated_target_is_no_budget(project: Path) -> None:
    steps = "  - prune: {criterion: l2, reduce: {latency: 0.3}, reconstruct: false}"
    with_steps(project, steps)
    project.write_text(project.read_text() + "targets: [cortex-m4]\n")
    with pytest.raises(UserError):
        take(project, Workplace(None, None))


def test_sparsity_learning_makes_the_cut_cheaper(project: Path, tmp_path: Path) -> None:
    (tmp_path / "step").mkdir()
    learn = "learn: {epochs: 2, strength: 0.003, lr: 0.02, batch_size: 32}"
    steps = f"  - prune: {{criterion: l2, reduce: {{macs: 0.4}}, reconstruct: false, {learn}}}"
    learned, bench = take(with_steps(project, steps), Workplace(tmp_path / "step", None))
    assert learned.changed
    assert learned.program.state()["b.weight"].abs().mean() < bench.original.state()["b.weight"].abs().mean()


def on_a_core(project: Path, steps: str) -> Path:
    """The recipe with other steps, for a Cortex-M4."""
    path = with_steps(project, steps)
    path.write_text(path.read_text() + "targets: [cortex-m4]\n")
    return path


@pytest.mark.emulator
def test_a_budget_on_a_core_is_met_by_the_exported_c(project: Path, tmp_path: Path) -> None:
    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    limits = {"flash_bytes": 5_400, "arena_bytes": 1_000, "instructions": 90_000}
    steps = (
        "  - prune: {criterion: l2, budget: {flash: 5.4 kB, arena: 1000, instructions: 90k}, reconstruct: false}\n"
        "  - train: {epochs: 1, batch_size: 32}\n  - quantize: {samples: 64}\n  - export: {format: c, name: tiny}"
    )
    out = tmp_path / "run"
    execute(load_recipe(on_a_core(project, steps), []), out, dry_run=False, device="cpu", reporter=Silent())
    folder = next(out.glob("steps/*-export-*/c"))
    found = deploy(folder, np.zeros((1, 36), np.int8))
    need = {"flash_bytes": found.flash_bytes, "arena_bytes": found.arena_bytes}
    need["instructions"] = found.total.instructions
    assert all(need[figure] <= limit for figure, limit in limits.items()), need
    assert any(need[figure] > 0.9 * limit for figure, limit in limits.items()), "no more was cut than needed"


def test_a_budget_on_a_core_needs_a_core(project: Path) -> None:
    with pytest.raises(UserError, match="no microcontroller"):
        take(with_steps(project, "  - prune: {criterion: l2, budget: {arena: 1 kB}}"), Workplace(None, None))


def test_data_without_labels_is_enough(project: Path) -> None:
    text = project.read_text().replace("path: train.npz}", "path: train.npz, targets: null}")
    project.write_text(text)
    result, bench = take(with_steps(project, "  - prune: {reduce: {macs: 0.4}}"), Workplace(None, None))
    assert bench.samples.calibration is not None and bench.samples.calibration.targets is None
    assert result.changed and result.program(*bench.original.example_inputs).isfinite().all()


def test_the_width_of_heads_is_cut_where_a_recipe_asks_for_it(project: Path) -> None:
    (project.parent / "net.py").write_text(ATTENTION)
    how = "criterion: l2, reduce: {macs: 0.25}, round_to: 1, ignore: [embed, head], reconstruct: false"
    steps = f"  - prune: {{{how}, attention: width}}"
    result, _ = take(with_steps(project, steps), Workplace(None, None))
    attention = next(n for n in result.program.nodes if "attention" in str(n.target))
    shapes = [node.meta["val"].shape for node in attention.args[:3]]  # type: ignore[union-attr]
    assert [shape[1] for shape in shapes] == [2, 2, 2]
    assert shapes[0][-1] == shapes[1][-1] < 4
    assert attention.kwargs["scale"] == 4**-0.5
