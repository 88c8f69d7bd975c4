"""Set weights to zero by a mask that stays with the program, so that training and quantization keep them zero."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.ir.program import PassResult, Program

PLAN = "sparsity"


def mask_weights(program: Program, masks: Mapping[str, Tensor]) -> PassResult:
    """Zero the weights where a mask is false.

    Args:
        masks: parameter name -> boolean tensor of the parameter's shape, true where the weight stays.

    Returns:
        The program with the weights zeroed, and `plans["sparsity"]` naming the masked parameters; the zeros themselves
        are the mask, see `masks_of`. `changed` is false where all of it was so before.

    Raises:
        UserError: a mask for a parameter that does not exist or of another shape.
    """
    state = program.state()
    for name, mask in masks.items():
        if name not in state or state[name].shape != mask.shape:
            raise UserError(
                f"mask for {name}",
                found=f"shape {tuple(mask.shape)}",
                expected=f"shape {tuple(state[name].shape)}" if name in state else "the name of a parameter",
            )
    fresh = {name: state[name].detach() * mask.to(state[name].dtype) for name, mask in masks.items()}
    known = set(program.plans.get(PLAN, {}).get("masked", ()))
    sparse = {name for name, mask in masks.items() if not mask.all()}
    if sparse <= known and all(torch.equal(fresh[name], state[name].detach()) for name in fresh):
        return PassResult(program, changed=False)
    names = sorted({*known, *masks})
    zeros = sum(int((tensor == 0).sum()) for tensor in fresh.values())
    note = f"mask_weights: {zeros} of {sum(t.numel() for t in fresh.values())} weights of {len(fresh)} tensors are zero"
    return PassResult(program.with_state(fresh, note=note).with_plan(PLAN, {"masked": names}), changed=True)


def masks_of(program: Program) -> dict[str, Tensor]:
    """The masks a program carries: true where a weight of a masked parameter is not zero."""
    state = program.state()
    return {name: state[name].detach() != 0 for name in program.plans.get(PLAN, {}).get("masked", ()) if name in state}


def kept_zero(program: Program) -> Callable[[Mapping[str, Tensor]], None] | None:
    """What keeps a program's masked weights at zero if called with its parameters; `None` where none is masked."""
    masks = masks_of(program)
    return (lambda tensors: apply_masks(tensors, masks)) if masks else None


def apply_masks(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
    """Zero masked weights in place; call it after every optimizer step."""
    with torch.no_grad():
        for name, mask in masks.items():
            tensors[name].mul_(mask.to(tensors[name].dtype))
