"""Optimal brain surgeon for channels: what removing a channel costs after the best refit of the layers that read it.

For a layer y = W x + b let A = Cov(x) and G = Σ over positions of E[g gᵀ], g = ∂L/∂y. Removing the columns s of a
channel and refitting the others raises the loss by about (Hassibi & Stork 1993, eq. 5, for a block of weights and with
the Kronecker-factored Fisher of Martens & Grosse 2015 as the Hessian)

    ½ tr( G · W_s [(A⁻¹)_ss]⁻¹ W_sᵀ ),    W ← W - W_s [(A⁻¹)_ss]⁻¹ (A⁻¹)_s:

Channels go one after the other, the cheapest first; the score of a channel is what it cost when its turn came. The
shift of the mean is free (a bias or batch norm takes it), hence the covariance.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.channels import ChannelGroup, ChannelGroups
from edgepress.analysis.coupling import arguments
from edgepress.analysis.execute import execute
from edgepress.ir.program import Program
from edgepress.prune.evidence import SCORERS, Evidence
from edgepress.prune.regression import can_regress, channel_dim, rows_of
from edgepress.prune.tally import Scores

RIDGE = 1e-3  # relative to the mean of the diagonal
STEPS = 128  # a group of more units than this loses several at a time
ROWS = 64  # positions per example that enter the covariance


@dataclass
class Reader:
    """Sums over the calibration data of one layer that reads cuttable channels."""

    node: Node
    weight: str
    products: Tensor
    total: Tensor
    fisher: Tensor
    rows: int = 0
    examples: int = 0

    def add(self, x: Tensor, gradient: Tensor) -> None:
        """x: input of the layer; gradient: of the summed loss at its output."""
        inputs, _ = rows_of(self.node, x, gradient, ROWS, self.examples)
        self.products += inputs.T @ inputs
        self.total += inputs.sum(0)
        self.rows += len(inputs)
        g = gradient.movedim(channel_dim(self.node), -1).reshape(-1, gradient.shape[channel_dim(self.node)])
        self.fisher += g.T @ g
        self.examples += len(x)

    def covariance(self) -> Tensor:
        mean = self.total / self.rows
        return self.products / self.rows - torch.outer(mean, mean)


@dataclass
class Problem:
    """One layer during elimination: inverse covariance, weight times the root of G, columns of each unit."""

    inverse: Tensor
    weight: Tensor
    columns: Tensor
    gone: list[int] = field(default_factory=list)

    def costs(self, alive: Tensor) -> Tensor:
        """Of each unit in `alive` (indices)."""
        columns = self.columns[alive]  # (units, columns per unit)
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        weights = self.weight[:, columns]  # (out, units, columns)
        moments = torch.einsum("oui,ouj->uij", weights, weights)
        return 0.5 * (torch.linalg.inv(blocks) * moments).sum((1, 2))

    def remove(self, units: Tensor) -> None:
        columns = self.columns[units].reshape(-1)
        gain = torch.linalg.solve(self.inverse[columns][:, columns], self.inverse[columns])  # (removed, all)
        self.weight = self.weight - self.weight[:, columns] @ gain
        self.inverse = self.inverse - self.inverse[:, columns] @ gain


def surgeon(evidence: Evidence) -> Scores:
    """One score per unit: the order within a group is that of elimination, the level that of activation Taylor scores.

    Elimination finds which channels the others can stand in for; how much the network as a whole needs a group it
    judges too kindly where errors of neighbouring positions add up. Measured on ResNet-56: 89.2 % by elimination
    alone, 90.3 % by activation Taylor alone, 90.6 % so (2.1x fewer MACs, 1,000 calibration images).
    """
    readers = collect(evidence)
    scores = SCORERS["activation_taylor"](evidence)
    for group in evidence.wanted:
        problems = list(_problems(evidence.program, evidence.groups, group, readers))
        if problems:
            level = scores[group.first : group.first + group.size]
            order = np.argsort(eliminate(problems, group.size), kind="stable")
            level[order] = np.sort(level)
    return scores


def eliminate(problems: list[Problem], units: int) -> npt.NDArray[np.float64]:
    """Costs of the units in the order they go, never falling along that order."""
    alive = torch.arange(units)
    scores = np.zeros(units)
    step, highest = max(1, units // STEPS), 0.0
    while len(alive) > 1:
        costs = torch.stack([p.costs(alive) for p in problems]).sum(0)
        chosen = costs.argsort()[: min(step, len(alive) - 1)]
        for cost, unit in zip(costs[chosen].tolist(), alive[chosen].tolist(), strict=True):
            highest = max(cost, highest * (1 + 1e-9))
            scores[unit] = highest
        for problem in problems:
            problem.remove(alive[chosen])
        alive = alive[torch.isin(torch.arange(len(alive)), chosen, invert=True)]
    scores[alive] = np.inf  # the last unit of a group never goes
    return scores


def collect(evidence: Evidence) -> dict[Node, Reader]:
    """Covariances of inputs and gradients of every layer that can be refitted and reads units."""
    readers = dict(_empty_readers(evidence))
    for inputs, targets in evidence.batches:
        _add_batch(evidence, readers, inputs, targets)
    return readers


def _empty_readers(evidence: Evidence) -> Iterator[tuple[Node, Reader]]:
    names, state = evidence.program.state_names(), evidence.program.state()
    read = {member for group in evidence.wanted for member in group.members}
    for node in evidence.program.nodes:
        if can_regress(node, names):
            name = names[arguments(node)["weight"].name]
            if (name, 1) in read:
                out, width = state[name].shape[0], state[name][0].numel()
                yield node, Reader(node, name, torch.zeros(width, width), torch.zeros(width), torch.zeros(out, out))


def _add_batch(evidence: Evidence, readers: Mapping[Node, Reader], inputs: tuple[Tensor, ...], targets: Tensor) -> None:
    seen: list[tuple[Reader, Tensor, Tensor]] = []
    sources = {arguments(node)["input"] for node in readers}
    values: dict[Node, Tensor] = dict(zip(evidence.program.user_inputs(), inputs, strict=True))

    def watch(node: Node, value: Any) -> Any:
        if node in sources:
            values[node] = value.detach()
        if node in readers:
            seen.append((readers[node], values[arguments(node)["input"]], value))
        return value

    with torch.enable_grad():
        loss = evidence.loss(execute(evidence.program, inputs, watch), targets) * len(inputs[0])
        gradients = torch.autograd.grad(loss, [y for _, _, y in seen], allow_unused=True)
    for (reader, x, _), gradient in zip(seen, gradients, strict=True):
        if gradient is not None:
            reader.add(x, gradient)


def _problems(
    program: Program, groups: ChannelGroups, group: ChannelGroup, readers: Mapping[Node, Reader]
) -> Iterator[Problem]:
    state = program.state()
    for reader in readers.values():
        if (reader.weight, 1) in group.members and reader.examples:
            weight = state[reader.weight].detach()
            columns = _columns(groups.tensor_units(reader.weight, 1), group, weight[0, 0].numel())
            covariance = reader.covariance().double()
            ridge = RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
            inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
            root = _root(reader.fisher.double() / reader.examples)
            yield Problem(inverse, root @ weight.double().flatten(1), columns)


def _columns(units: npt.NDArray[np.int64], group: ChannelGroup, kernel: int) -> Tensor:
    """(units, columns): the columns of the flattened weight that each unit of the group owns."""
    inside = (units >= group.first) & (units < group.first + group.size)
    order = np.flatnonzero(inside)[np.argsort(units[inside], kind="stable")].reshape(group.size, -1)
    return torch.from_numpy((order[:, :, None] * kernel + np.arange(kernel)).reshape(group.size, -1))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T
