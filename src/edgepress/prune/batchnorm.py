"""Batch-norm re-estimation: running statistics measured anew on calibration data, after a cut."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.ir.program import Program
from edgepress.prune.lockstep import Batches, Walker

BATCH_NORM = torch.ops.aten.batch_norm.default


def reestimate(program: Program, batches: Batches) -> Program:
    """The program with each batch norm's mean and variance those of what it reads on `batches`, first norms first.

    Later norms see what earlier ones give with their new statistics. Norms that share their statistics stay.

    Args:
        batches: calibration inputs; held in memory together.
    """
    names = program.state_names()
    norms = [node for node in program.nodes if node.target == BATCH_NORM and _owns_statistics(node, names)]
    walker = Walker(program, batches, {arguments(norm)["input"].name for norm in norms})
    changed: dict[str, Tensor] = {}
    for norm in norms:
        bound = arguments(norm)
        walker.advance(bound["input"].name)
        mean, variance = moments(walker.values(bound["input"].name))
        for key, value in (("running_mean", mean), ("running_var", variance)):
            name = names[bound[key].name]
            changed[name] = value.to(walker.state[name].dtype)
        walker.state.update(changed)
        walker.release([bound["input"].name])
    return program.with_state(changed, note=f"reestimate: statistics of {len(norms)} batch norms") if norms else program


def _owns_statistics(norm: Node, names: dict[str, str]) -> bool:
    statistics = [arguments(norm)[key] for key in ("running_mean", "running_var")]
    return all(isinstance(s, Node) and s.name in names and len(s.users) == 1 for s in statistics)


def moments(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance, (channels,), of tensors (batch, channels, ...) taken together."""
    flat = [value.movedim(1, -1).flatten(0, -2).double() for value in values]
    rows = sum(len(x) for x in flat)
    mean = torch.stack([x.sum(0) for x in flat]).sum(0) / rows
    variance = torch.stack([(x - mean).square().sum(0) for x in flat]).sum(0) / rows
    return mean, variance
