"""Metrics of tasks, made from the number of classes. torchmetrics is imported only when one is made."""

from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # label of positions that do not count (padding)


def accuracy(classes: int) -> Any:
    """The share of right answers."""
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(classes, average="micro", ignore_index=IGNORED)


def macro_f1(classes: int) -> Any:
    """F1 of each class, averaged with equal weights over the classes that occur in labels or answers."""
    from torchmetrics.classification import MulticlassF1Score

    return MulticlassF1Score(classes, average="macro", ignore_index=IGNORED)


def binary_accuracy(classes: int) -> Any:
    """The share of right answers at probability 0.5."""
    from torchmetrics.classification import BinaryAccuracy

    return BinaryAccuracy()


def binary_f1(classes: int) -> Any:
    """F1 of the positive class at probability 0.5."""
    from torchmetrics.classification import BinaryF1Score

    return BinaryF1Score()


def area_under_curve(classes: int) -> Any:
    """Area under the receiver operating characteristic."""
    from torchmetrics.classification import BinaryAUROC

    return BinaryAUROC()


def mean_iou(classes: int) -> Any:
    """Intersection over union of each class, averaged."""
    from torchmetrics.classification import MulticlassJaccardIndex

    return MulticlassJaccardIndex(classes, ignore_index=IGNORED)


def perplexity(classes: int) -> Any:
    """exp of the mean cross-entropy per token."""
    from torchmetrics.text import Perplexity

    return Perplexity(ignore_index=IGNORED)


def mean_squared_error(classes: int) -> Any:
    """Mean squared error."""
    from torchmetrics.regression import MeanSquaredError

    return MeanSquaredError()


def kernel_distance_metric(classes: int) -> Any:
    """`kernel_distance` between everything generated and everything real."""
    from torchmetrics import Metric

    class KernelDistance(Metric):
        generated: list[Tensor]
        real: list[Tensor]

        def __init__(self) -> None:
            super().__init__()
            self.add_state("generated", default=[], dist_reduce_fx="cat")
            self.add_state("real", default=[], dist_reduce_fx="cat")

        def update(self, generated: Tensor, real: Tensor) -> None:
            self.generated.append(generated)
            self.real.append(real)

        def compute(self) -> Tensor:
            return kernel_distance(torch.cat(self.generated), torch.cat(self.real))

    return KernelDistance()


def kernel_distance(generated: Tensor, real: Tensor) -> Tensor:
    """Squared maximum mean discrepancy with the kernel k(x, y) = (x.y / d + 1)^3 on raw values.

    The unbiased estimator of Gretton et al. 2012, eq. 3, with the kernel of Binkowski et al. 2018 (the kernel inception
    distance), but on pixels instead of Inception's features: those mean nothing to small grey images. Its mean is 0 for
    two sets from one distribution, whatever their size: it is then negative about as often as not.

    The Frechet distance is not offered: its estimate is biased, by a term that falls as 1/n and depends on the network,
    so with a few hundred samples it ranks sample sizes rather than networks (Binkowski et al. 2018, section 3).

    Args:
        generated, real: (n, ...) with the same n, at least 2, and the same d values per sample.
    """
    x, y = generated.flatten(1), real.flatten(1).to(generated.dtype)
    pairs = max(len(x) * (len(x) - 1), 1)
    inside = sum(
        ((k.sum() - k.diagonal().sum()) / pairs for k in (_kernel(x, x), _kernel(y, y))), start=x.new_zeros(())
    )
    return inside - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
