"""Cut channels out of a program: weights shrink, and every size written into the graph is repaired. No policy here."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import ChannelGroups, channel_groups
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program
from edgepress.passes.repair_sizes import Kept, repair

Mask = npt.NDArray[np.bool_]


def cut_channels(program: Program, plan: ChannelPlan, groups: ChannelGroups | None = None) -> PassResult:
    """Remove the units that `plan` does not keep.

    Args:
        groups: `channel_groups(program)` if at hand, to save computing it again.

    Raises:
        UserError: the plan was made for another program.
    """
    groups = groups or channel_groups(program, plan.attention)
    keep = plan.mask(groups)
    if keep.all():
        return PassResult(program, changed=False, refusals=groups.refusals)
    atoms = atoms_kept(groups, keep)
    editor = Editor(program)
    for name, tensor in shrunk_tensors(program, groups, atoms).items():
        editor.set_tensor(name, tensor)
    kept = Kept(groups.layouts, atoms)
    for node in list(editor.graph.nodes):
        repair(editor, node, kept)
    note = f"cut_channels: {int((~keep).sum())} of {keep.size} units removed from {len(plan.kept)} groups"
    return PassResult(editor.finish(note=note), changed=True, refusals=groups.refusals)


def atoms_kept(groups: ChannelGroups, keep: Mask) -> Mask:
    """Per atom: does it stay? `keep` has one entry per unit."""
    return np.append(keep, True)[groups.unit_of]  # unit -1, the last entry: must stay


def shrunk_tensors(program: Program, groups: ChannelGroups, atoms: Mask) -> Mapping[str, torch.Tensor]:
    """The weights that lose something, at their new sizes."""
    state = program.state()
    shrunk = {}
    for name, dims in groups.tensors.items():
        tensor = state[name]
        for position, dim in enumerate(dims):
            if not atoms[dim].all():
                index = torch.from_numpy(np.flatnonzero(atoms[dim])).to(tensor.device)
                tensor = tensor.detach().index_select(position, index)
        if tensor is not state[name]:
            shrunk[name] = tensor
    return shrunk
