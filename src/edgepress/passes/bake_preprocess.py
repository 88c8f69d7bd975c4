"""Bake the preprocessing into the graph: the network then takes raw values, x' = multiplier * x + offset per channel.

The product and the sum stay nodes of their own. Folding them into a first convolution would be exact only without zero
padding: a padded zero is a preprocessed zero there, and a raw one here.
"""

from collections.abc import Sequence

import torch
from torch.fx import Node

from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program, Refusal

MULTIPLIER, OFFSET = "preprocess.multiplier", "preprocess.offset"


def bake_preprocess(
    program: Program, multiplier: Sequence[float], offset: Sequence[float], *, channels_last: bool = False
) -> PassResult:
    """The program with the affine map, and the change of layout, in front of its first input.

    Args:
        multiplier, offset: one number per channel (dimension 1 of the first input), or a single one for all; 1 and 0
            leave no trace.
        channels_last: the new input is (N, ..., channels).
    """
    editor = Editor(program)
    image = editor.node(program.user_inputs()[0].name)
    value = image.meta["val"]
    if refusal := _refusal(image.name, value, len(multiplier), channels_last):
        return PassResult(program, False, (refusal,))
    if channels_last:
        image = editor.permute_input(image, (0, *range(2, value.dim()), 1))
    affine = set(multiplier) != {1.0} or set(offset) != {0.0}
    if affine:
        _insert_affine(editor, image, value, multiplier, offset)
    if not affine and not channels_last:
        return PassResult(program, False)
    return PassResult(editor.finish(note=_note(affine, channels_last)), True)


def _insert_affine(
    editor: Editor, image: Node, value: torch.Tensor, multiplier: Sequence[float], offset: Sequence[float]
) -> None:
    shape = (1, len(multiplier), *[1] * (value.dim() - 2))
    scale = editor.add_tensor(MULTIPLIER, torch.tensor(multiplier, dtype=value.dtype).view(shape))
    shift = editor.add_tensor(OFFSET, torch.tensor(offset, dtype=value.dtype).view(shape))
    product = editor.call(torch.ops.aten.mul.Tensor, (image, scale), after=image, name="preprocess_scaled")
    result = editor.call(torch.ops.aten.add.Tensor, (product, shift), after=product, name="preprocessed")
    editor.replace_uses(image, result, keep=(product,))


def _note(affine: bool, channels_last: bool) -> str:
    parts = ["scale, mean and std"] * affine + ["channels last"] * channels_last
    return f"preprocessing baked into the graph: {', '.join(parts)}"


def _refusal(name: str, value: torch.Tensor, channels: int, channels_last: bool) -> Refusal | None:
    if not value.dtype.is_floating_point or value.dim() < 2:
        return Refusal(name, f"{value.dtype} of {value.dim()} dimensions", "floating point (N, channels, ...)")
    if channels not in (1, value.shape[1]):
        return Refusal(name, f"{value.shape[1]} channels", f"{channels}, as many as mean and std have")
    if channels_last and value.dim() < 3:
        return Refusal(name, f"{value.dim()} dimensions", "(N, channels, ...) with something after the channels")
    return None
