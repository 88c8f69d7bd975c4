"""The train step of a recipe: losses, teachers, students, few samples, and training behind quantization."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from edgepress.errors import UserError
from edgepress.ir import load as load_program
from edgepress.measure.record import Evidence, StepRecord
from edgepress.passes.learn_scales import plan_of
from edgepress.pipeline.run import execute
from edgepress.recipe import load


class Silent:
    """A reporter that says nothing."""

    def step(self, number: int, total: int, name: str) -> None: ...

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...

    def tell(self, text: str) -> None: ...

    def progress(self, text: str) -> None: ...


def run(recipe: Path, steps: list[dict[str, object]], *overrides: str, out: str = "run", dry: bool = False) -> Evidence:
    """The recipe with other steps, carried out beside it."""
    content = yaml.safe_load(recipe.read_text())
    content["steps"], content["measure"] = steps, {"latency": None, "memory": False, "energy": False}
    recipe.write_text(yaml.safe_dump(content))
    outcome = execute(load(recipe, overrides), recipe.parent / out, dry_run=dry, device="cpu", reporter=Silent())
    assert dry or outcome.evidence is not None
    return outcome.evidence  # type: ignore[return-value]


def train(**settings: object) -> dict[str, object]:
    return {"train": {"epochs": 2, "lr": 0.01, "batch_size": 32, "validation": 0.25, **settings}}


def step(evidence: Evidence, kind: str) -> StepRecord:
    return [record for record in evidence.steps if record.kind == kind][-1]


def metric(evidence: Evidence, name: str) -> float:
    found = evidence.compressed.measurement(name)
    assert found is not None and found.value is not None
    return found.value


PRUNE = {"prune": {"criterion": "l2", "reduce": {"macs": 0.4}, "round_to": 4, "minimum": 4, "reconstruct": False}}


def test_several_losses_with_schedules_and_taps(project: Path) -> None:
    losses = [
        {"loss": "task", "weight": 0.3},
        {"loss": "kd", "weight": 0.7, "temperature": 2.0},
        {"loss": "hint", "schedule": "down"},
        {"loss": "attention", "weight": 5.0, "taps": {"student": "relu.*", "teacher": "relu.*"}},
    ]
    record = step(run(project, [PRUNE, train(distill={"losses": losses})]), "train")
    assert "0.3 task + 0.7 kd, temperature 2 + 1 hint, down + 5 attention" in record.summary
    assert [r.node for r in record.refusals] == ["training"]
    assert "not cached: features are tapped" in record.refusals[0].found


def test_a_student_of_the_users_learns_from_a_teacher_of_the_users(project: Path) -> None:
    student = {"factory": "net.py:tiny", "kwargs": {"width": 6}}
    teacher = {"factory": "net.py:tiny", "kwargs": {"width": 24}}
    steps = [train(student=student, distill={"teachers": [teacher, {"factory": "net.py:tiny"}]})]
    evidence = run(project, steps)
    assert metric(evidence, "params") < 6 * 6 * 9 + 500
    assert "net.py:tiny: 2 epochs" in step(evidence, "train").summary
    assert step(evidence, "train").after["params"] < step(evidence, "train").before["params"]
    changed = run(project, steps, f"steps.0.train.student.kwargs.width={8}")
    assert metric(changed, "params") > metric(evidence, "params")


def test_weights_behind_a_network_decide_the_result_too(project: Path) -> None:
    from safetensors.numpy import save_file

    run(project, [train()], out="first")
    program = load_program(next((project.parent / "first" / "steps").glob("*train*")) / "program")
    weights = {name: tensor.detach().numpy() for name, tensor in program.state().items()}
    save_file(weights, project.parent / "teacher.safetensors")
    steps = [
        train(distill={"teachers": [{"factory": "net.py:tiny", "weights": "teacher.safetensors"}]}, validation=0.0)
    ]
    one = run(project, steps, out="second")
    save_file({k: v * np.float32(0.5) for k, v in weights.items()}, project.parent / "teacher.safetensors")
    other = run(project, steps, out="second")
    assert one.compressed.digest != other.compressed.digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student": {"factory": "net.py:five"}}, "other outputs than the recipe's network"),
        ({"student": {"factory": "net.py:tiny", "inputs": {"image": {"shape": [1, 8, 8]}}}}, "other inputs"),
        ({"distill": {"losses": [{"loss": "hint"}], "teachers": [{"factory": "net.py:tiny"}] * 2}},
         "several teachers cannot be tapped"),
        ({"distill": {"losses": [{"loss": "hint", "taps": [["relu", "nothing"]]}]}}, "no features at node nothing"),
        ({"distill": {"losses": [{"loss": "kd", "output": 1}]}}, "cannot compare output 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(project: Path, settings: dict[str, object], message: str) -> None:
    network = project.parent / "net.py"
    network.write_text(network.read_text() + "\n\ndef five():\n    net = Tiny()\n    net.head = nn.Linear(16, 5)\n"
                       "    return net\n")  # fmt: skip
    with pytest.raises(UserError, match=message):
        run(project, [train(**settings)])


def test_a_dry_run_refuses_the_same(project: Path) -> None:
    with pytest.raises(UserError, match="no features at node nothing"):
        run(project, [train(distill={"losses": [{"loss": "hint", "taps": [["relu", "nothing"]]}]})], dry=True)


def test_without_labels_the_teacher_alone_teaches(project: Path) -> None:
    unlabelled = "data.train.targets=null"
    record = step(run(project, [PRUNE, train(distill={"weight": 1.0})], unlabelled), "train")
    assert "the training data has no targets" in record.refusals[0].found
    with pytest.raises(UserError, match="needs targets") as caught:
        run(project, [PRUNE, train(distill={"weight": 0.5})], unlabelled, out="other")
    assert "weight: 1.0" in caught.value.fix


def test_few_samples_of_each_class(project: Path) -> None:
    evidence = run(project, [PRUNE, train(distill={"weight": 1.0}), {"quantize": {}}], "data.train.per_class=1")
    record = step(evidence, "train")
    assert record.facts["samples"] == 4
    assert "0.25 of 4 samples" in record.refusals[0].found
    assert any("calibration: 4 samples" in note for note in evidence.notes)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_prune_distill_quantize_train_export_is_one_recipe(project: Path, bits: int) -> None:
    quantize = {"quantize": {"weight_bits": bits, "rounding": "nearest"}}
    steps = [PRUNE, train(epochs=6, distill={}), quantize, train(epochs=4, lr=0.005, distill={}, validation=0.0)]
    evidence = run(project, steps, "targets=[local-cpu]")
    before, after = ([r for r in evidence.steps if r.kind == "train"][i] for i in (0, 1))
    assert "quantization-aware" not in before.summary and "quantization-aware" in after.summary
    folders = sorted((project.parent / "run" / "steps").glob("*-*"))
    quantized, trained = (load_program(f / "program") for f in folders if f.name[:2] in ("04", "05"))
    plans = plan_of(quantized), plan_of(trained)
    assert plans[0].weights[0].scales != plans[1].weights[0].scales
    assert plans[0].activations[1].scale != plans[1].activations[1].scale
    assert trained.graph.find_nodes(op="call_function", target=quantized.nodes[1].target)
    parity = next(p for p in evidence.parity if p.first == "compressed program")
    assert parity.flip_rate == 0 and parity.max_abs < 0.05
    assert after.after["accuracy"] >= after.before["accuracy"] - 0.1
