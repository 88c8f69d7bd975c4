"""Fourier transforms, windows and mel weights."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import Numbers, ensure_affordable, torch_dtype


def dft(
    x: Tensor, length: Numbers | None = None, axis: Numbers | None = None, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Discrete Fourier transform (opset 20 on). x (..., 1) real or (..., 2) complex -> (..., 2)."""
    dim = (-2 if axis is None else int(axis.reshape(-1)[0])) % x.dim()
    size = x.shape[dim] if length is None else int(length.reshape(-1)[0])
    if inverse and onesided:
        spectrum = torch.view_as_complex(x.contiguous())
        whole = 2 * (size - 1) if length is None else size
        return torch.fft.irfft(spectrum, whole, dim).unsqueeze(-1)
    signal = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    if onesided:
        return torch.view_as_real(torch.fft.rfft(signal, size, dim))
    spectrum = torch.fft.ifft(signal, size, dim) if inverse else torch.fft.fft(signal, size, dim)
    return torch.view_as_real(spectrum)


def dft_attribute(
    x: Tensor, length: Numbers | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """DFT of opset 17: the axis is an attribute."""
    return dft(x, length, np.asarray(axis), inverse=inverse, onesided=onesided)


def stft(
    signal: Tensor, step: Numbers, window: Tensor | None = None, frame: Numbers | None = None, *, onesided: int = 1
) -> Tensor:
    """Short-time Fourier transform: (B, L[, 1]) -> (B, frames, bins, 2)."""
    held = signal.squeeze(-1) if signal.dim() == 3 and signal.shape[-1] == 1 else signal
    length = (
        int(frame.reshape(-1)[0]) if frame is not None else window.shape[0] if window is not None else held.shape[1]
    )
    if held.dim() == 3:
        held = torch.view_as_complex(held.contiguous())
    frames = held.unfold(1, length, int(step.reshape(-1)[0]))
    frames = frames if window is None else frames * window
    spectrum = torch.fft.rfft(frames) if onesided and not frames.is_complex() else torch.fft.fft(frames)
    return torch.view_as_real(spectrum)


def window(*coefficients: float) -> Callable[..., Tensor]:
    """A cosine-sum window: sum of a_k cos(2 pi k n / N), N = size (periodic) or size - 1."""

    def make(size: Numbers, output_datatype: int = 1, periodic: int = 1) -> Tensor:
        count = int(size.reshape(-1)[0])
        ensure_affordable([count])
        n = torch.arange(count, dtype=torch.float32)
        angle = 2 * math.pi * n / (count if periodic else count - 1)
        values = sum(a * torch.cos(k * angle) for k, a in enumerate(coefficients))
        return torch.as_tensor(values).to(torch_dtype(output_datatype))

    return make


def mel_weights(bins: Any, length: Any, rate: Any, low: Any, high: Any, output_datatype: int = 1) -> Tensor:
    """Triangular mel filters: (length / 2 + 1, bins)."""
    count, size, samples = (int(n.reshape(-1)[0]) for n in (bins, length, rate))
    mel = [2595 * math.log10(1 + float(f.reshape(-1)[0]) / 700) for f in (low, high)]
    steps = mel[0] + np.arange(count + 2) * (mel[1] - mel[0]) / (count + 2)
    edges = ((size + 1) * (700 * (10 ** (steps / 2595) - 1)) // samples).astype(np.int64)
    ensure_affordable([size // 2 + 1, count])
    weights = np.zeros((size // 2 + 1, count))
    for i, (lower, centre, upper) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rise = np.arange(lower, centre + 1)
        weights[rise, i] = (rise - lower) / (centre - lower) if centre > lower else 1.0
        fall = np.arange(centre, upper)
        if upper > centre:
            weights[fall, i] = (upper - fall) / (upper - centre)
    return torch.from_numpy(weights).to(torch_dtype(output_datatype))


OPERATORS: Operators = {
    "DFT": {17: Operator(dft_attribute, numbers=(1,)), 20: Operator(dft, numbers=(1, 2))},
    "STFT": Operator(stft, numbers=(1, 3)),
    "HannWindow": Operator(window(0.5, -0.5), numbers=(0,)),
    "HammingWindow": Operator(window(25 / 46, -21 / 46), numbers=(0,)),
    "BlackmanWindow": Operator(window(0.42, -0.5, 0.08), numbers=(0,)),
    "MelWeightMatrix": Operator(mel_weights, numbers=(0, 1, 2, 3, 4)),
}
