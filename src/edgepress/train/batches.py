"""Batches for training: rows gathered, augmented, mixed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.errors import UserError
from edgepress.train.augment import chain, cutmix, mixup
from edgepress.train.options import TrainOptions
from edgepress.train.randomness import epoch_order, generator_of
from edgepress.train.samples import Samples


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of some samples, and the rows of the data set they came from."""

    inputs: tuple[Tensor, ...]
    targets: Tensor | None
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def share(self, rank: int, world: int) -> "Batch":
        """Every `world`-th sample from `rank` on; all of them if there are not enough for every process."""
        return self if world == 1 or len(self) < world else self._piece(slice(rank, None, world))

    def parts(self, count: int) -> Iterator["Batch"]:
        """At most `count` pieces of (almost) equal size."""
        size = -(-len(self) // count)
        for start in range(0, len(self), size):
            yield self._piece(slice(start, start + size))

    def _piece(self, piece: slice) -> "Batch":
        targets = None if self.targets is None else self.targets[piece]
        return Batch(tuple(t[piece] for t in self.inputs), targets, self.rows[piece])


class Batches:
    """Training batches of a data set, each a function of the seed and the step.

    Args:
        classes: number of classes of the labels, 0 where targets are no labels: mixup and cutmix need them.

    Raises:
        UserError: an augmentation that does not suit the data.
    """

    def __init__(self, data: Samples, options: TrainOptions, classes: int) -> None:
        self._data, self._options, self._classes = data, options, classes
        self._chain = chain(options.augment, data.inputs[0].dim())
        mixes = options.mixup > 0 or options.cutmix > 0
        if mixes and (not classes or data.targets is None or data.targets.dim() != 1):
            raise UserError("mixup and cutmix need class labels", found="targets that are no class labels",
                            expected="one integer label per sample", fix="set `mixup` and `cutmix` to 0")  # fmt: skip
        self._mixes = mixes

    @property
    def varies(self) -> bool:
        """Whether a sample looks different each time it is drawn."""
        return bool(self._chain) or self._mixes

    @property
    def steps_per_epoch(self) -> int:
        return len(self.epoch_rows(0))

    def epoch_rows(self, epoch: int) -> tuple[Tensor, ...]:
        """The rows of each step of an epoch.

        A last batch of one sample joins the one before it: one value has no variance, and batch norm would divide by 0.
        """
        steps = epoch_order(len(self._data), self._options.seed, epoch).split(self._options.batch_size)
        if len(steps) > 1 and len(steps[-1]) == 1:
            return (*steps[:-2], torch.cat(steps[-2:]))
        return steps

    def get(self, rows: Tensor, step: int) -> Batch:
        """The samples at `rows` as step `step` sees them."""
        inputs = tuple(t[rows] for t in self._data.inputs)
        targets = None if self._data.targets is None else self._data.targets[rows]
        if not self.varies:
            return Batch(inputs, targets, rows)
        generator = generator_of(self._options.seed, "augment", step)
        first = inputs[0]
        for augmentation in self._chain:
            first = augmentation(first, generator)
        if self._mixes:
            assert targets is not None
            first, targets = self._mix(first, targets, generator)
        return Batch((first, *inputs[1:]), targets, rows)

    def _mix(self, first: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """mixup or cutmix; a fair coin decides where both are on."""
        soft = F.one_hot(targets, self._classes).to(torch.float32)
        coin = float(torch.rand(1, generator=generator))
        use_cutmix = self._options.cutmix > 0 and (self._options.mixup == 0 or coin < 0.5)
        if use_cutmix:
            return cutmix(first, soft, self._options.cutmix, generator)
        return mixup(first, soft, self._options.mixup, generator)
