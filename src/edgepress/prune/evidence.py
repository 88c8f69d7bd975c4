"""Turn weights, gradients and activations into one score per unit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.channels import ChannelGroup, ChannelGroups
from edgepress.analysis.coupling import arguments
from edgepress.analysis.execute import execute
from edgepress.analysis.layout import Layout, atoms_of, axes_in, blocks_of
from edgepress.analysis.operators import CONVOLUTIONS, TRANSPOSED
from edgepress.ir.program import Program
from edgepress.prune import score
from edgepress.prune.tally import Scores, Tally

Batch = tuple[tuple[Tensor, ...], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
READERS = (*CONVOLUTIONS, *TRANSPOSED, torch.ops.aten.linear.default)


@dataclass(frozen=True)
class Evidence:
    """What scoring needs: the program, its groups, calibration batches and the loss.

    Attributes:
        only: the groups whose scores will be read; those of others may be left coarse. All without it.
        aggregation: how the shares of the tensors of a unit become one score (see `prune.tally`).
    """

    program: Program
    groups: ChannelGroups
    batches: Iterable[Batch]
    loss: Loss
    seed: int = 0
    only: tuple[ChannelGroup, ...] | None = None
    aggregation: str = "sum"

    @property
    def wanted(self) -> tuple[ChannelGroup, ...]:
        """The groups whose scores will be read."""
        return self.groups.groups if self.only is None else self.only


def unit_scores(criterion: str, evidence: Evidence) -> Scores:
    """One score per unit, larger is more important; see `prune.score` and `prune.surgeon` for the criteria."""
    if criterion == "surgeon":
        from edgepress.prune.surgeon import surgeon

        return surgeon(evidence)
    return SCORERS[criterion](evidence)


def members(groups: ChannelGroups) -> list[tuple[str, int]]:
    """Every tensor dimension that some unit shrinks."""
    return list(dict.fromkeys(m for group in groups.groups for m in group.members))


def add_up(evidence: Evidence, saliency: Mapping[str, Tensor]) -> Scores:
    """Score per unit from the saliency of all weights it removes, each tensor dimension counted once."""
    tally = Tally(evidence.groups.units)
    for name, dim in members(evidence.groups):
        if name in saliency:
            others = [d for d in range(saliency[name].dim()) if d != dim]
            values = saliency[name].sum(others) if others else saliency[name]
            tally.add((name, dim), evidence.groups.tensor_units(name, dim), values)
    return tally.scores(evidence.aggregation)


# -- weights -------------------------------------------------------------------------------------------------------


def _matrices(evidence: Evidence) -> dict[str, Tensor]:
    """Weights of two dimensions or more: scales and shifts are not compared with them."""
    state = evidence.program.state()
    names = {name for name, _ in members(evidence.groups)}
    return {n: state[n].detach() for n in evidence.program.parameter_names() if n in names and state[n].dim() > 1}


def _from_weights(rule: Callable[[Tensor], Tensor]) -> Callable[[Evidence], Scores]:
    return lambda e: add_up(e, {name: rule(w) for name, w in _matrices(e).items()})


def _bn_scale(evidence: Evidence) -> Scores:
    """|γ| (Liu et al. 2017, "Network slimming"); units without batch norm score by their weights' mean magnitude."""
    state = evidence.program.state()
    gammas = [n.args[1] for n in evidence.program.nodes if n.target == torch.ops.aten.batch_norm.default]
    names = evidence.program.state_names()
    scales = {names[g.name]: state[names[g.name]].detach().abs() for g in gammas if isinstance(g, Node)}
    return add_up(evidence, scales)


def _fpgm(evidence: Evidence) -> Scores:
    tally = Tally(evidence.groups.units)
    for name, dim in members(evidence.groups):
        weight = evidence.program.state()[name].detach()
        if dim == 0 and weight.dim() > 1:
            tally.add(name, evidence.groups.tensor_units(name, dim), score.fpgm(weight, dim))
    return tally.scores(evidence.aggregation)


def _random(evidence: Evidence) -> Scores:
    return np.random.default_rng(evidence.seed).random(evidence.groups.units)


# -- gradients -----------------------------------------------------------------------------------------------------


def _gradients(evidence: Evidence, power: int) -> dict[str, Tensor]:
    """Mean over batches of the gradient of each weight matrix to the given power."""
    weights = {n: w.clone().requires_grad_() for n, w in _matrices(evidence).items()}
    sums = {n: torch.zeros_like(w) for n, w in weights.items()}
    state = {n: t.detach() for n, t in evidence.program.state().items()} | weights
    count = 0
    for inputs, targets in evidence.batches:
        value = evidence.loss(execute(evidence.program, inputs, state=state), targets)
        grads = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
        for name, grad in zip(weights, grads, strict=True):
            if grad is not None:
                sums[name] += grad.pow(power)
        count += 1
    return {name: total / max(count, 1) for name, total in sums.items()}


def _with_gradients(rule: Callable[[Tensor, Tensor], Tensor], power: int) -> Callable[[Evidence], Scores]:
    def scorer(evidence: Evidence) -> Scores:
        grads = _gradients(evidence, power)
        return add_up(evidence, {n: rule(w, grads[n]) for n, w in _matrices(evidence).items()})

    return scorer


# -- activations ---------------------------------------------------------------------------------------------------


def read_nodes(program: Program, groups: ChannelGroups) -> dict[Node, Layout]:
    """Nodes whose output a convolution or linear layer reads and which hold units, with their layouts."""
    found: dict[Node, Layout] = {}
    for node in program.nodes:
        if node.target in READERS:
            source = arguments(node)["input"]
            layout = groups.layouts[source.name]
            if _unit_dims(groups, layout):
                found[source] = layout
    return found


def _unit_dims(groups: ChannelGroups, layout: Layout) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """(dimension, unit at each position) for the dimensions that hold units."""
    found = []
    for position, dim in enumerate(layout):
        blocks = blocks_of([dim])
        if len(blocks) == 1 and len(axes_in(dim, blocks[0])) == blocks[0].atoms.ndim:
            atoms = atoms_of(dim)
            assert atoms is not None
            units = groups.unit_of[atoms]
            if (units >= 0).any():
                found.append((position, units))
    return found


def _from_effects(rule: Callable[[Tensor], Tensor]) -> Callable[[Evidence], Scores]:
    """Score the effect on the loss of zeroing each channel where layers read it."""

    def scorer(evidence: Evidence) -> Scores:
        tally = Tally(evidence.groups.units)
        count = 0
        for inputs, targets in evidence.batches:
            for number, (layout, effects) in enumerate(_effects(evidence, inputs, targets)):
                for position, units in _unit_dims(evidence.groups, layout):
                    others = [d for d in range(1, effects.dim()) if d != position]
                    per_example = effects.sum(others) if others else effects
                    tally.add((number, position), units, rule(per_example) * len(per_example))
            count += len(inputs[0])
        return tally.scores(evidence.aggregation) / max(count, 1)

    return scorer


def _effects(evidence: Evidence, inputs: tuple[Tensor, ...], targets: Tensor) -> list[tuple[Layout, Tensor]]:
    """a · ∂L/∂a of each read node, for the sum of the losses of the examples."""
    wanted = read_nodes(evidence.program, evidence.groups)
    seen: list[tuple[Layout, Tensor]] = []

    def watch(node: Node, value: Tensor) -> Tensor:
        if node in wanted:
            value = value if value.requires_grad else value.detach().requires_grad_()
            seen.append((wanted[node], value))
        return value

    with torch.enable_grad():
        value = evidence.loss(execute(evidence.program, inputs, watch), targets) * len(inputs[0])
        grads = torch.autograd.grad(value, [tensor for _, tensor in seen], allow_unused=True)
    return [(layout, (a * g).detach()) for (layout, a), g in zip(seen, grads, strict=True) if g is not None]


def _wanda(evidence: Evidence) -> Scores:
    """Weights that read a unit, by the norm of what they read."""
    norms: dict[str, Tensor] = {}
    names = evidence.program.state_names()
    plain = (n for n in evidence.program.nodes if n.target in READERS and _is_plain(n, names))
    readers = {n: names[arguments(n)["weight"].name] for n in plain}

    def watch(node: Node, value: Tensor) -> Tensor:
        for reader in node.users:
            if reader in readers and reader.args[0] is node:
                channel = value.dim() - 1 if reader.target == torch.ops.aten.linear.default else 1
                norm = value.square().sum([d for d in range(value.dim()) if d != channel])
                norms[readers[reader]] = norms.get(readers[reader], torch.zeros(())) + norm
        return value

    with torch.no_grad():
        for inputs, _ in evidence.batches:
            execute(evidence.program, inputs, watch)
    tally = Tally(evidence.groups.units)
    weights = _matrices(evidence)
    for node, name in readers.items():
        dim = 0 if node.target in TRANSPOSED else 1
        if name in norms and (name, dim) in set(members(evidence.groups)):
            values = score.wanda(weights[name], norms[name].sqrt(), dim).movedim(dim, 0).flatten(1).sum(1)
            tally.add(name, evidence.groups.tensor_units(name, dim), values)
    return tally.scores(evidence.aggregation)


def _is_plain(node: Node, names: Mapping[str, str]) -> bool:
    bound = arguments(node)
    return isinstance(node.args[1], Node) and node.args[1].name in names and bound.get("groups", 1) == 1


SCORERS: Mapping[str, Callable[[Evidence], Scores]] = {
    "l1": _from_weights(score.l1),
    "l2": _from_weights(score.l2),
    "lamp": _from_weights(score.lamp),
    "bn_scale": _bn_scale,
    "fpgm": _fpgm,
    "random": _random,
    "taylor": _with_gradients(score.taylor, 1),
    "fisher": _with_gradients(score.fisher, 2),
    "wanda": _wanda,
    "activation_taylor": _from_effects(score.activation_taylor),
    "activation_fisher": _from_effects(score.activation_fisher),
}
