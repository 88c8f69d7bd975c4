"""A data set in memory: what every source gives and every consumer takes."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from edgepress.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """Samples as tensors whose first dimension counts them.

    Attributes:
        inputs: one tensor (N, ...) per input of the network, in call order.
        targets: (N, ...) labels or values to predict; `None` for unlabelled data.
        classes: name of each class, in label order; empty where targets are no class labels.
        source: where it came from, for people.
        slices: ways to slice the data, each with one label per sample ({"speaker": ("ann", "bob", ...)}).
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor | None = None
    classes: tuple[str, ...] = ()
    source: str = ""
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(t) for t in (*self.inputs, *_present(self.targets))} | set(map(len, self.slices.values()))
        if len(counts) != 1 or 0 in counts:
            raise UserError(
                f"the data set {self.source or 'in memory'} is not usable",
                found="no samples" if counts <= {0} else f"tensors of {sorted(counts)} samples",
                expected="the same number of samples, at least one, in every input and in the targets",
                fix="check the arrays that `data` names",
            )

    def __len__(self) -> int:
        return len(self.inputs[0])

    @cached_property
    def digest(self) -> str:
        """sha256 over dtypes, shapes and values: equal for equal samples in equal order, whatever the source."""
        sha = hashlib.sha256()
        for tensor in (*self.inputs, *_present(self.targets)):
            sha.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        return sha.hexdigest()

    @property
    def has_class_labels(self) -> bool:
        """Whether the targets are one integer label per sample."""
        return self.targets is not None and self.targets.dim() == 1 and not self.targets.is_floating_point()

    def class_balance(self) -> dict[str, int]:
        """Samples per class, by class name (or label where there are no names); empty without class labels."""
        if self.targets is None or not self.has_class_labels:
            return {}
        labels, counts = torch.unique(self.targets, return_counts=True)
        found = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        named = {name: found.pop(number, 0) for number, name in enumerate(self.classes)}
        return named | {str(label): count for label, count in found.items()}

    def subset(self, indices: Sequence[int] | Tensor) -> "Dataset":
        """The samples at `indices`, in that order."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        targets = None if self.targets is None else self.targets[rows]
        slices = {name: tuple(labels[i] for i in rows.tolist()) for name, labels in self.slices.items()}
        return replace(self, inputs=tuple(t[rows] for t in self.inputs), targets=targets, slices=slices)

    def take(self, n: int, seed: int) -> "Dataset":
        """`n` samples drawn without replacement, in drawn order; all of them, shuffled, if there are fewer."""
        return self.subset(order(len(self), seed)[:n])

    def unlabelled(self) -> "Dataset":
        """The same inputs without targets."""
        return replace(self, targets=None)

    def batches(self, size: int, *, seed: int | None = None, drop_last: bool = False) -> Iterator["Dataset"]:
        """Consecutive batches, shuffled by `seed` if one is given; the last may be shorter."""
        rows = torch.arange(len(self)) if seed is None else order(len(self), seed)
        for chunk in rows.split(size):
            if len(chunk) == size or not drop_last:
                yield self.subset(chunk)

    def row_hashes(self) -> list[bytes]:
        """One 16-byte BLAKE2 hash of the inputs of each sample; targets do not count."""
        flat = [t.contiguous().reshape(len(self), -1).view(torch.uint8).numpy() for t in self.inputs]
        return [_hash_row([part[i] for part in flat]) for i in range(len(self))]


def order(n: int, seed: int) -> Tensor:
    """A permutation of 0..n-1 that depends on `n` and `seed` alone; int64."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """(the rest, a held-out `fraction`), drawn by seed; each class is represented alike where there are labels.

    Raises:
        UserError: either part would be empty.
    """
    held = torch.zeros(len(dataset), dtype=torch.bool)
    labels = dataset.targets if dataset.has_class_labels else torch.zeros(len(dataset), dtype=torch.int64)
    assert labels is not None
    shuffled = order(len(dataset), seed)
    for label in labels.unique().tolist():
        members = shuffled[labels[shuffled] == label]
        held[members[: round(fraction * len(members))]] = True
    if not 0 < int(held.sum()) < len(dataset):
        raise UserError(
            f"cannot hold out {fraction:g} of {dataset.source or 'the data set'}",
            found=f"{len(dataset)} samples, {int(held.sum())} held out",
            expected="samples on both sides",
            fix="give more data, or another fraction between 0 and 1",
        )
    return dataset.subset((~held).nonzero().flatten()), dataset.subset(held.nonzero().flatten())


def per_class(dataset: Dataset, k: int, seed: int) -> Dataset:
    """The few-sample mode: `k` samples of each class, drawn by seed.

    Raises:
        UserError: no class labels, or a class with fewer than `k` samples.
    """
    if dataset.targets is None or not dataset.has_class_labels:
        raise UserError("cannot draw samples per class", found="targets that are no class labels",
                        expected="one integer label per sample", fix="use `limit` instead")  # fmt: skip
    shuffled = order(len(dataset), seed)
    labels = dataset.targets[shuffled]
    rows = []
    for label in labels.unique().tolist():
        members = shuffled[labels == label][:k]
        if len(members) < k:
            raise UserError(f"cannot draw {k} samples of class {label}", found=f"{len(members)} of it",
                            expected=f"at least {k}", fix="ask for fewer samples per class")  # fmt: skip
        rows.append(members)
    return dataset.subset(torch.cat(rows).sort().values)


def _present(tensor: Tensor | None) -> tuple[Tensor, ...]:
    return () if tensor is None else (tensor,)


def _hash_row(parts: list[object]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)  # type: ignore[arg-type]  # a numpy row is a buffer
    return digest.digest()
