"""Reconstruction: tune weights, scales and biases of a quantized program until it computes what the float one does.

No labels: the loss compares values inside both networks (as BRECQ, Li et al. 2021, does block by block) and their
outputs, over all layers at once, with LSQ gradients. For weights below four bits, where closed forms end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.fx import Interpreter, Node

from edgepress.ir.program import Program
from edgepress.passes.learn_scales import fix_scales, learn_scales, plan_of
from edgepress.quantize.calibrate import Batch
from edgepress.quantize.round_layers import gather

TEMPERATURE = 2.0
JUDGED = 256  # samples that decide whether the result is kept


@dataclass(frozen=True)
class Tuning:
    """Settings of `reconstruct`.

    Attributes:
        steps: gradient steps. batch: samples per step. samples: size of the pool they are drawn from.
        rate: Adam's step for weights and biases. scale_rate: the same, relative to each scale's size.
        seed: of the order of samples.
    """

    steps: int = 300
    batch: int = 64
    samples: int = 2048
    rate: float = 5e-4
    scale_rate: float = 1e-2
    seed: int = 0


def reconstruct(quantized: Program, reference: Program, batches: Iterable[Batch], tuning: Tuning) -> Program:
    """A program with the integers of `quantized` tuned towards `reference`, the float program it was placed for."""
    inputs = gather(batches, tuning.samples)
    student = learn_scales(quantized, offsets=False).program
    taps = _taps(student)
    goals = _goals(reference, taps, inputs)
    weights = [1.0 / g.square().mean().clamp_min(1e-12) for g in goals]
    trained = _train(student, taps, inputs, goals, weights, tuning)
    tuned = student.with_state(trained, note=f"reconstructed in {tuning.steps} steps")
    before, after = (_judge(p, taps, inputs, goals, weights) for p in (student, tuned))
    # Too few samples or too large steps can lead away: then the rounding it started from is the better result.
    return fix_scales(tuned).program if after < before else quantized


def _taps(student: Program) -> list[str]:
    """Values to compare: every sum with its activation, which end a residual block, else all quantized values."""
    points = [p.node for p in plan_of(student).activations if p.source]
    by_name = {n.name: n for n in student.nodes}
    sums = [name for name in points if name in by_name and _ends_a_block(by_name[name])]
    return sums or [name for name in points if name in by_name]


def _ends_a_block(node: Node) -> bool:
    before = [node, *node.all_input_nodes]
    return any("aten.add" in str(n.target) for n in before)


def _goals(reference: Program, taps: Sequence[str], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The float network's tapped values and first output over the pool."""
    kept: list[list[torch.Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(inputs[0]), 128):
            chunk = [t[start : start + 128] for t in inputs]
            kept.append(_Tapped(reference, taps).run(*_arguments(reference, chunk)))
    return [torch.cat(column) for column in zip(*kept, strict=True)]


class _Tapped(Interpreter):
    """Runs a graph and returns the values of some nodes, then the first output."""

    def __init__(self, program: Program, taps: Sequence[str]) -> None:
        super().__init__(program.exported.graph_module)
        self._taps, self._seen = set(taps), dict[str, torch.Tensor]()
        self._order = list(taps)

    def run_node(self, n: Node) -> object:
        value = super().run_node(n)
        if n.name in self._taps:
            self._seen[n.name] = value
        return value

    def run(self, *arguments: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        outputs = super().run(*arguments)
        return [*(self._seen[name] for name in self._order), outputs[0]]


def _arguments(
    program: Program, inputs: Sequence[torch.Tensor], instead: dict[str, torch.Tensor] | None = None
) -> list[torch.Tensor]:
    """Values for all placeholders; `instead` replaces tensors of the state by name."""
    state, names = {**program.state(), **(instead or {})}, program.state_names()
    given = iter(inputs)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    return [state[names[n.name]] if n.name in names else next(given) for n in placeholders]


def _train(
    student: Program,
    taps: list[str],
    inputs: Sequence[torch.Tensor],
    goals: list[torch.Tensor],
    weights: list[torch.Tensor],
    tuning: Tuning,
) -> dict[str, torch.Tensor]:
    free = {n: student.state()[n].detach().clone().requires_grad_() for n in student.parameter_names()}
    optimizer = torch.optim.Adam(_groups(free, tuning))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, tuning.steps)
    order = torch.Generator().manual_seed(tuning.seed)
    for _ in range(tuning.steps):
        picked = torch.randint(0, len(inputs[0]), (tuning.batch,), generator=order)
        values = _Tapped(student, taps).run(*_arguments(student, [t[picked] for t in inputs], free))
        loss = _loss(values, [g[picked] for g in goals], weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.detach() for name, tensor in free.items()}


def _judge(
    program: Program,
    taps: list[str],
    inputs: Sequence[torch.Tensor],
    goals: list[torch.Tensor],
    weights: list[torch.Tensor],
) -> float:
    """The loss over the first samples of the pool."""
    with torch.inference_mode():
        values = _Tapped(program, taps).run(*_arguments(program, [t[:JUDGED] for t in inputs]))
        return float(_loss(values, [g[:JUDGED] for g in goals], weights))


def _groups(free: dict[str, torch.Tensor], tuning: Tuning) -> list[dict[str, object]]:
    """Adam's steps are absolute: each scale gets one in proportion to its size."""
    scales = [(n, t) for n, t in free.items() if n.startswith("learned.")]
    others = [t for n, t in free.items() if not n.startswith("learned.")]
    groups: list[dict[str, object]] = [{"params": others, "lr": tuning.rate}]
    return groups + [{"params": [t], "lr": tuning.scale_rate * float(t.detach().mean())} for _, t in scales]


def _loss(values: list[torch.Tensor], goals: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
    """Mean of the relative squared errors inside, plus the divergence of the outputs where they are scores."""
    inside = [w * F.mse_loss(v, g) for v, g, w in zip(values, goals, weights, strict=True)]
    loss = torch.stack(inside).mean()
    if values[-1].dim() == 2 and values[-1].shape[1] > 1:
        loss = loss + _divergence(values[-1], goals[-1])
    return loss


def _divergence(scores: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Hinton et al. 2015: KL between the softened outputs, scaled by T^2."""
    soft = F.log_softmax(scores / TEMPERATURE, 1)
    return F.kl_div(soft, F.log_softmax(goal / TEMPERATURE, 1), log_target=True, reduction="batchmean") * TEMPERATURE**2
