"""Each loss against its equation, written out a second time with NumPy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgepress.distill import losses
from edgepress.distill.term import FEATURE_LOSSES, OUTPUT_LOSSES


def logits(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * (np.log(p) - np.log(q))).sum(1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd(temperature: float) -> None:
    s, t = logits(0, 5, 7), logits(1, 5, 7)
    expected = temperature**2 * divergence(softmax(t.numpy() / temperature), softmax(s.numpy() / temperature)).mean()
    assert float(losses.kd(s, t, temperature=temperature)) == pytest.approx(expected)


def test_kd_of_dense_outputs_averages_over_positions() -> None:
    s, t = logits(0, 2, 3, 4, 5), logits(1, 2, 3, 4, 5)
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 3) for x in (s, t)]
    torch.testing.assert_close(losses.kd(s, t), losses.kd(rows[0], rows[1]))


def test_kd_gradients_do_not_shrink_with_the_temperature() -> None:
    """Hinton et al., section 2.1: at high T the gradient tends to (z_s - z_t) / C for centred logits, whatever T."""
    s, t = (x - x.mean(1, keepdim=True) for x in (logits(0, 4, 6), logits(1, 4, 6)))
    s.requires_grad_()
    (gradient,) = torch.autograd.grad(losses.kd(s, t, temperature=1000.0), s)
    torch.testing.assert_close(gradient * len(s), (s - t).detach() / 6, rtol=2e-2, atol=2e-3)


def test_dkd() -> None:
    s, t, y, temperature = logits(0, 5, 6), logits(1, 5, 6), torch.tensor([0, 5, 2, 2, 1]), 2.0
    p, q = softmax(t.numpy() / temperature), softmax(s.numpy() / temperature)
    rows = np.arange(5)
    pair = [np.stack([x[rows, y], 1 - x[rows, y]], 1) for x in (p, q)]
    rest = [np.stack([np.delete(x[i], y[i]) / (1 - x[i, y[i]]) for i in rows]) for x in (p, q)]
    expected = temperature**2 * (0.7 * divergence(*pair).mean() + 3.0 * divergence(*rest).mean())
    found = losses.dkd(s, t, y, alpha=0.7, beta=3.0, temperature=temperature)
    assert float(found) == pytest.approx(expected)


def test_dkd_is_kd_when_beta_is_the_teachers_doubt() -> None:
    """Zhao et al., equation 6: KD = TCKD + (1 - p_t) NCKD, per sample."""
    s, t, y = logits(0, 1, 6), logits(1, 1, 6), torch.tensor([3])
    doubt = 1 - float(torch.softmax(t / 4, 1)[0, 3])
    torch.testing.assert_close(losses.dkd(s, t, y, alpha=1.0, beta=doubt), losses.kd(s, t))


def test_dkd_takes_mixed_targets_by_their_largest_entry() -> None:
    s, t, y = logits(0, 4, 3), logits(1, 4, 3), torch.tensor([0, 1, 2, 1])
    soft = 0.6 * torch.nn.functional.one_hot(y, 3).double() + 0.4 / 3
    torch.testing.assert_close(losses.dkd(s, t, soft), losses.dkd(s, t, y))


def test_sequence_skips_padding() -> None:
    s, t = logits(0, 2, 3, 5), logits(1, 2, 3, 5)
    targets = torch.tensor([[1, 2, -100], [4, -100, -100]])
    kept = targets >= 0
    torch.testing.assert_close(losses.sequence(s, t, targets), losses.kd(s[kept], t[kept], temperature=1.0))


def test_attention() -> None:
    s, t = logits(0, 3, 4, 5, 5), logits(1, 3, 8, 5, 5)

    def mapped(x: Tensor) -> np.ndarray:
        q = (x.numpy() ** 2).sum(1).reshape(3, -1)
        return q / np.linalg.norm(q, axis=1, keepdims=True)

    expected = ((mapped(s) - mapped(t)) ** 2).sum(1).mean()
    assert float(losses.attention(s, t)) == pytest.approx(expected)


def test_similarity() -> None:
    s, t = logits(0, 4, 2, 3, 3), logits(1, 4, 7)

    def gram(x: Tensor) -> np.ndarray:
        flat = x.numpy().reshape(4, -1)
        g = flat @ flat.T
        return g / np.linalg.norm(g, axis=1, keepdims=True)

    expected = ((gram(s) - gram(t)) ** 2).sum() / 16
    assert float(losses.similarity(s, t)) == pytest.approx(expected)


def huber(d: np.ndarray) -> np.ndarray:
    return np.where(np.abs(d) <= 1, 0.5 * d**2, np.abs(d) - 0.5)


def test_relational() -> None:
    s, t = logits(0, 4, 3), logits(1, 4, 5)

    def distances(x: np.ndarray) -> np.ndarray:
        d = np.linalg.norm(x[:, None] - x[None], axis=2)
        return d / d[~np.eye(4, dtype=bool)].mean()

    def angles(x: np.ndarray) -> np.ndarray:
        out = np.zeros((4, 4, 4))
        for j in range(4):
            for i in range(4):
                for k in range(4):
                    a, b = x[i] - x[j], x[k] - x[j]
                    length = np.linalg.norm(a) * np.linalg.norm(b)
                    out[j, i, k] = a @ b / length if length else 0.0
        return out

    x, y = s.numpy(), t.numpy()
    expected = 1 * huber(distances(x) - distances(y)).mean() + 2 * huber(angles(x) - angles(y)).mean()
    assert float(losses.relational(s, t)) == pytest.approx(expected, rel=1e-6)


def test_relational_survives_equal_samples() -> None:
    s = torch.ones(4, 3, requires_grad=True)
    loss = losses.relational(s, logits(1, 4, 5).float())
    (gradient,) = torch.autograd.grad(loss, s)
    assert bool(torch.isfinite(gradient).all())


def test_channel_wise_and_hint_and_regression() -> None:
    s, t = logits(0, 2, 3, 4, 4), logits(1, 2, 3, 4, 4)
    p, q = (softmax(x.numpy().reshape(6, 16) / 4) for x in (t, s))
    assert float(losses.channel_wise(s, t)) == pytest.approx(16 * divergence(p, q).mean())
    expected = ((s - t) ** 2).mean()
    torch.testing.assert_close(losses.hint(s, t, relative=0.0), expected)
    torch.testing.assert_close(losses.hint(s, t), expected / (t**2).mean())
    torch.testing.assert_close(losses.regression(s, t), expected)


ON_LOGITS = sorted(set(OUTPUT_LOSSES) - {"dkd", "sequence", "channel_wise"})


@given(seed=st.integers(0, 50), name=st.sampled_from([*ON_LOGITS, *FEATURE_LOSSES]))
@settings(max_examples=40, deadline=None)
def test_zero_for_equals_positive_for_others_and_no_gradient_for_the_teacher(seed: int, name: str) -> None:
    function = {**OUTPUT_LOSSES, **FEATURE_LOSSES}[name]
    shape = (4, 5) if name in OUTPUT_LOSSES else (4, 5, 3, 3)
    s, t = logits(seed, *shape).requires_grad_(), logits(seed + 100, *shape).requires_grad_()
    assert float(function(s.detach(), s.detach())) == pytest.approx(0, abs=1e-9)
    loss = function(s, t)
    assert loss.item() > 0
    loss.backward()
    assert t.grad is None
    assert s.grad is not None
