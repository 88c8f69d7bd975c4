"""The whole of pruning, with its defaults, on every family of networks."""

import pytest
import torch
import torch.nn.functional as F
from tests.analysis.networks import NETWORKS, program_of

from edgepress.prune import PruneOptions, prune

DENSE_OUTPUT = {"u_net", "super_resolution"}


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_refitted_and_running(name: str) -> None:
    program = program_of(name)
    images = [torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    loss = F.mse_loss if name in DENSE_OUTPUT else F.cross_entropy
    batches = [((x,), torch.randn_like(program(x))) for x in images]
    result = prune(program, PruneOptions({"params": 0.2}), batches, loss)
    assert result.facts["params_after"] <= 0.8 * result.facts["params_before"]
    outputs = result.program(images[0])
    assert outputs.shape == program(images[0]).shape
    assert torch.isfinite(outputs).all()
