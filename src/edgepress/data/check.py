"""Does a data set fit a network? Asked before anything expensive starts."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.data.dataset import Dataset
from edgepress.errors import UserError
from edgepress.ir.program import Program


def check_fits(dataset: Dataset, program: Program) -> None:
    """Compare a data set with the inputs and outputs of a network.

    Raises:
        UserError: number, shape or dtype of inputs; values that are not finite; class labels out of range.
    """
    nodes = program.user_inputs()
    if len(nodes) != len(dataset.inputs):
        raise _misfit(dataset, f"{len(dataset.inputs)} inputs", f"{len(nodes)}: {', '.join(program.input_names)}")
    for name, node, tensor in zip(program.input_names, nodes, dataset.inputs, strict=True):
        _check_input(dataset, name, node, tensor)
    _check_labels(dataset, program)


def check_finite(dataset: Dataset) -> None:
    """Refuse NaN and infinity.

    Raises:
        UserError: names the tensor and the first such sample.
    """
    for name, tensor in _floating(dataset):
        bad = (~torch.isfinite(tensor)).reshape(len(dataset), -1).any(1)
        if bad.any():
            raise UserError(
                f"the data set {dataset.source} holds values that are not finite",
                found=f"{int(bad.sum())} samples in {name}, the first is sample {int(bad.nonzero()[0])}",
                expected="finite numbers",
                fix="remove or repair these samples; look for a division by a zero standard deviation",
            )


def _floating(dataset: Dataset) -> Iterator[tuple[str, Tensor]]:
    tensors = [(f"input {i}", t) for i, t in enumerate(dataset.inputs)]
    if dataset.targets is not None:
        tensors.append(("the targets", dataset.targets))
    yield from ((name, t) for name, t in tensors if t.is_floating_point())


def _check_input(dataset: Dataset, name: str, node: Node, tensor: Tensor) -> None:
    wanted = node.meta["val"]
    fixed = [(i, d) for i, d in enumerate(wanted.shape) if i > 0 and isinstance(d, int)]
    if tensor.dim() != wanted.dim() or any(tensor.shape[i] != d for i, d in fixed):
        raise _misfit(dataset, f"samples of shape {list(tensor.shape[1:])}",
                      f"{[d if isinstance(d, int) else '?' for d in wanted.shape[1:]]} for input {name}")  # fmt: skip
    if tensor.dtype != wanted.dtype:
        raise _misfit(dataset, f"{tensor.dtype}", f"{wanted.dtype} for input {name}")


def _misfit(dataset: Dataset, found: str, expected: str) -> UserError:
    return UserError(f"the data set {dataset.source} does not fit the model's inputs", found=found, expected=expected,
                     fix="correct `data` (its arrays, `layout`, `scale`) or `model.inputs`")  # fmt: skip


def _check_labels(dataset: Dataset, program: Program) -> None:
    """Only where targets are one label per sample and the network gives one score vector per sample."""
    scores = _first_output(program)
    if dataset.targets is None or not dataset.has_class_labels or scores is None or scores.dim() != 2:
        return
    low, high, classes = int(dataset.targets.min()), int(dataset.targets.max()), int(scores.shape[1])
    # One column is a logit for yes or no.
    limit = max(classes, 2)
    if low < 0 or high >= limit:
        raise UserError(
            f"labels of {dataset.source} are out of range",
            found=f"labels from {low} to {high}",
            expected=f"0 to {limit - 1}: the model has {classes} outputs",
            fix="number the classes from 0, or check that data and model belong together",
        )


def _first_output(program: Program) -> Tensor | None:
    output = next(n for n in reversed(program.graph.nodes) if n.op == "output")
    first = output.args[0][0]
    value = first.meta.get("val") if isinstance(first, Node) else None
    return value if isinstance(value, Tensor) else None
