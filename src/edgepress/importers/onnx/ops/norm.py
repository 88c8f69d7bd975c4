"""Normalisations, dropout and the losses that ship in ONNX."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import Numbers, Unsupported, torch_dtype


def batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
) -> Any:
    """Normalise each channel with stored statistics; with training_mode=1 with those of the batch."""
    if not spatial:
        return _pointwise_batch_norm(x, scale, bias, mean, variance, epsilon)
    if not training_mode:
        return F.batch_norm(x, mean, variance, scale, bias, False, 1 - momentum, epsilon)
    axes = (0, *range(2, x.dim()))
    batch_mean, batch_variance = x.mean(axes), x.var(axes, unbiased=False)
    y = F.batch_norm(x, batch_mean, batch_variance, scale, bias, False, 1 - momentum, epsilon)
    return (
        y,
        mean * momentum + batch_mean * (1 - momentum),
        variance * momentum + batch_variance * (1 - momentum),
    )


def batch_norm_by_outputs(*inputs: Tensor, outputs: int = 1, **attributes: Any) -> Any:
    """Before opset 14 a node that names more than its first output was saved while training."""
    return batch_norm(*inputs, **{**attributes, "training_mode": int(outputs > 1)})


def _pointwise_batch_norm(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> Tensor:
    """spatial=0 (before opset 9): statistics of every feature, not of every channel."""
    return (x - mean) * torch.rsqrt(variance + epsilon) * scale + bias


def instance_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each sample."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int = 1,
) -> Any:
    """Normalise over the axes from `axis` on; also mean and 1 / standard deviation if asked for."""
    shape = x.shape[axis % x.dim() :]
    y = F.layer_norm(x, shape, _full(scale, shape), _full(bias, shape), epsilon)
    if outputs == 1:
        return y
    axes = tuple(range(axis % x.dim(), x.dim()))
    held = x.to(torch_dtype(stash_type))
    mean = held.mean(axes, keepdim=True)
    return y, mean, torch.rsqrt(held.var(axes, unbiased=False, keepdim=True) + epsilon)


def _full(parameter: Tensor | None, shape: torch.Size) -> Tensor | None:
    """A scale or bias of the normalised shape."""
    return parameter if parameter is None or parameter.shape == shape else parameter.expand(shape)


def rms_norm(x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon), scaled."""
    shape = x.shape[axis % x.dim() :]
    return F.rms_norm(x, shape, _full(scale, shape), epsilon)


def group_norm(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Normalise groups of channels; scale and bias per channel (opset 21 on)."""
    return F.group_norm(x, num_groups, scale, bias, epsilon)


def group_norm_by_group(x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5) -> Tensor:
    """Opset 18: scale and bias per group."""
    repeats = x.shape[1] // num_groups
    return F.group_norm(x, num_groups, scale.repeat_interleave(repeats), bias.repeat_interleave(repeats), epsilon)


def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """x / (bias + alpha / size sum of squares of neighbouring channels)^beta."""
    return F.local_response_norm(x, size, alpha, beta, bias)


def mean_variance_norm(x: Tensor, axes: Any = (0, 2, 3)) -> Tensor:
    """(x - mean) / standard deviation over axes."""
    mean = x.mean(tuple(axes), keepdim=True)
    deviation = torch.sqrt((x * x).mean(tuple(axes), keepdim=True) - mean * mean)
    return (x - mean) / (deviation + 1e-9)


def dropout(x: Tensor, ratio: Numbers | None = None, training_mode: Numbers | None = None, *, seed: int = 0) -> Any:
    """Nothing at inference; the node stays so that training can switch it on."""
    share = 0.5 if ratio is None else float(ratio.reshape(-1)[0])
    if training_mode is not None and bool(training_mode.reshape(-1)[0]) and share > 0:
        kept = torch.rand_like(x) >= share
        return torch.where(kept, x / (1 - share), 0.0), kept
    return F.dropout(x, share, training=False), torch.ones_like(x, dtype=torch.bool)


def dropout_attribute(x: Tensor, ratio: float = 0.5, outputs: int = 1) -> Any:
    """Dropout before opset 12."""
    y = F.dropout(x, ratio, training=False)
    return y if outputs == 1 else (y, torch.ones_like(x, dtype=torch.bool))


def dropout_inference(
    x: Tensor, ratio: Any = None, training_mode: Any = None, *, seed: int = 0, outputs: int = 1
) -> Any:
    """Dropout with its ratio as input; the mask only if a node asks for it."""
    y, mask = dropout(x, ratio, training_mode, seed=seed)
    return y if outputs == 1 else (y, mask)


def negative_log_likelihood(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean", ignore_index: int | None = None
) -> Tensor:
    """Loss of log-probabilities (N, C, ...) against classes (N, ...)."""
    ignored = -(2**31) if ignore_index is None else ignore_index
    return F.nll_loss(x, target.to(torch.int64), weight, reduction=reduction, ignore_index=ignored)


def softmax_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean", ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of scores against classes, and the log-probabilities."""
    log_probabilities = torch.log_softmax(x, 1)
    loss = negative_log_likelihood(log_probabilities, target, weight, reduction=reduction, ignore_index=ignore_index)
    return loss, log_probabilities


def image_scaler(x: Tensor, scale: float = 1.0, bias: Any = ()) -> Tensor:
    """scale x + bias per channel (experimental, before opset 10)."""
    if len(bias) != x.shape[1]:
        raise Unsupported("ImageScaler", found=f"{len(bias)} biases", expected=f"{x.shape[1]}")
    return x * scale + torch.tensor(bias, dtype=x.dtype).reshape(1, -1, *[1] * (x.dim() - 2))


def affine(x: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """alpha x + beta (experimental)."""
    return x * alpha + beta


def scaled_tanh(x: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """alpha tanh(beta x) (experimental)."""
    return alpha * torch.tanh(beta * x)


def parametric_softplus(x: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """alpha log(1 + e^(beta x)) (experimental)."""
    return alpha * F.softplus(beta * x)


def crop(x: Tensor, border: Any, scale: Any = None) -> Tensor:
    """Cut (left, top, right, bottom) off, or a window of size `scale` (experimental, before opset 10)."""
    left, top, right, bottom = border
    if scale is not None:
        return x[:, :, top : top + scale[0], left : left + scale[1]]
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


OPERATORS: Operators = {
    "BatchNormalization": {
        1: Operator(batch_norm_by_outputs, weights=(1, 2), counts_outputs=True),
        14: Operator(batch_norm, weights=(1, 2)),
    },
    "InstanceNormalization": Operator(instance_norm, weights=(1, 2)),
    "LayerNormalization": Operator(layer_norm, weights=(1, 2), counts_outputs=True),
    "RMSNormalization": Operator(rms_norm, weights=(1,)),
    "GroupNormalization": {
        18: Operator(group_norm_by_group, weights=(1, 2)),
        21: Operator(group_norm, weights=(1, 2)),
    },
    "LRN": Operator(local_response_norm),
    "MeanVarianceNormalization": Operator(mean_variance_norm),
    "Dropout": {
        1: Operator(dropout_attribute, counts_outputs=True),
        12: Operator(dropout_inference, numbers=(1, 2), counts_outputs=True, foldable=False),
    },
    "NegativeLogLikelihoodLoss": Operator(negative_log_likelihood),
    "SoftmaxCrossEntropyLoss": Operator(softmax_cross_entropy),
    "ImageScaler": Operator(image_scaler),
    "Affine": Operator(affine),
    "ScaledTanh": Operator(scaled_tanh),
    "ParametricSoftplus": Operator(parametric_softplus),
    "Crop": Operator(crop),
}
