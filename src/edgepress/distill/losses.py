"""Distillation losses, one pure function per paper.

Shapes: logits are (N, C) or (N, C, ...) with classes in dimension 1 unless said otherwise; features are (N, C, H, W),
(N, C, T) or (N, D). Temperature convention: both distributions are softened by the same T, and the loss is multiplied
by T squared, so that the size of its gradients does not depend on T (Hinton et al. 2015, section 2). All losses are
means over the samples of the batch, and gradients never reach the teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-8


# -- outputs -----------------------------------------------------------------------------------------------------------


def kd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Soft targets (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network").

    L = T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over samples and, for dense outputs (N, C, ...),
    over positions.
    """
    wanted = F.log_softmax(_rows(teacher.detach()) / temperature, dim=1)
    given = F.log_softmax(_rows(student) / temperature, dim=1)
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2


def dkd(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0
) -> Tensor:
    """Decoupled knowledge distillation (Zhao et al. 2022, "Decoupled Knowledge Distillation", equation 7).

    L = T^2 (alpha TCKD + beta NCKD): TCKD compares the probability of the true class with that of all others, NCKD the
    distribution among the others. The paper takes alpha 1, beta 8, T 4 for CIFAR-sized networks.

    Args:
        student, teacher: (N, C). labels: (N,) classes, or (N, C) probabilities, whose largest entry then counts.
    """
    labels = labels.argmax(1) if labels.is_floating_point() else labels
    true = F.one_hot(labels, student.shape[1]).bool()
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.detach() / temperature, dim=1)
    target = _kl(_true_and_rest(log_student, true), _true_and_rest(log_teacher, true))
    rest = _kl(_among_rest(log_student, true), _among_rest(log_teacher, true))
    return (alpha * target + beta * rest) * temperature**2


def sequence(student: Tensor, teacher: Tensor, targets: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """Word-level distillation of sequence outputs (Kim & Rush 2016, section 3.1): `kd` per token.

    Args:
        student, teacher: (N, T, V) logits. targets: (N, T); positions with a negative target (padding) do not count.
    """
    counted = torch.ones(student.shape[:-1], dtype=torch.bool) if targets is None else targets >= 0
    counted = counted.to(student.device)
    return kd(student[counted], teacher[counted], temperature=temperature)


def regression(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of outputs: for values, boxes and policies (Ba & Caruana 2014, equation 1)."""
    return F.mse_loss(student, teacher.detach())


def channel_wise(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Channel-wise distillation for dense prediction (Shu et al. 2021, "Channel-wise Knowledge Distillation", eq. 4).

    Softmax runs over the positions of each channel instead of over the classes of each position.

    Args:
        student, teacher: (N, C, H, W), of equal shape.
    """
    n, c = student.shape[:2]
    given = F.log_softmax(student.reshape(n * c, -1) / temperature, dim=1)
    wanted = F.log_softmax(teacher.detach().reshape(n * c, -1) / temperature, dim=1)
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2


# -- features ----------------------------------------------------------------------------------------------------------


def hint(student: Tensor, teacher: Tensor, *, relative: float = 1.0) -> Tensor:
    """FitNets (Romero et al. 2015, equation 3): mean squared difference of (projected) student and teacher features.

    The paper sums over elements and halves; the mean keeps the weight independent of the layer's size. With `relative`
    1 the difference is divided by the mean square of the teacher's features in the batch, which keeps the weight
    independent of their scale as well; 0 is the paper's. The projection is learned and belongs to the objective.
    """
    wanted = teacher.detach()
    return F.mse_loss(student, wanted) / wanted.square().mean().clamp_min(TINY) ** relative


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Attention transfer (Zagoruyko & Komodakis 2017, equation 2 with p = 2): no projection, channels may differ.

    Q = sum over channels of squares, flattened and scaled to unit length; L = mean over samples of |Qs - Qt|^2.
    """
    difference = _attention_map(student) - _attention_map(teacher.detach())
    return difference.square().sum(1).mean()


def relational(student: Tensor, teacher: Tensor, *, distance: float = 1.0, angle: float = 2.0) -> Tensor:
    """Relational distillation (Park et al. 2019, equations 5 to 9), with the paper's weights 1 : 2.

    Huber losses on the pairwise distances (scaled by their mean) and the angles of all triples within the batch.
    Features of any shape are pooled to (N, D); D may differ between student and teacher.
    """
    given, wanted = _pooled(student), _pooled(teacher.detach())
    by_distance = F.smooth_l1_loss(_distances(given), _distances(wanted))
    by_angle = F.smooth_l1_loss(_angles(given), _angles(wanted))
    return distance * by_distance + angle * by_angle


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving distillation (Tung & Mori 2019, equations 2 to 4).

    G = row-normalised Gram matrix of the batch; L = |Gs - Gt|_F^2 / N^2. Any shapes with the same N.
    """
    return (_similarities(student) - _similarities(teacher.detach())).square().mean()


# -- pieces ------------------------------------------------------------------------------------------------------------


def _rows(logits: Tensor) -> Tensor:
    """(N, C, ...) -> (N * positions, C)."""
    return logits if logits.dim() == 2 else logits.movedim(1, -1).reshape(-1, logits.shape[1])


def _kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def _true_and_rest(log_p: Tensor, true: Tensor) -> Tensor:
    """(N, C) log-probabilities -> (N, 2): of the true class, and of all others together."""
    rest = log_p.masked_fill(true, -torch.inf).logsumexp(1)
    return torch.stack([log_p[true], rest], dim=1)


def _among_rest(log_p: Tensor, true: Tensor) -> Tensor:
    """(N, C) log-probabilities -> (N, C - 1): distribution among the classes that are not the true one."""
    others = log_p[~true].view(len(log_p), -1)
    return F.log_softmax(others, dim=1)


def _attention_map(features: Tensor) -> Tensor:
    """(N, C, ...) -> (N, positions) of unit length."""
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


def _pooled(features: Tensor) -> Tensor:
    """(N, C, ...) -> (N, C): mean over positions."""
    return features if features.dim() == 2 else features.flatten(2).mean(2)


def _distances(features: Tensor) -> Tensor:
    """(N, D) -> (N, N) Euclidean distances over their mean (the diagonal does not count); differentiable at 0."""
    squared = (features[:, None] - features[None]).square().sum(2)
    distances = (squared + TINY**2).sqrt() * (1 - torch.eye(len(features), device=features.device))
    pairs = max(len(features) * (len(features) - 1), 1)
    return distances / (distances.sum() / pairs).clamp_min(TINY)


def _angles(features: Tensor) -> Tensor:
    """(N, D) -> (N, N, N): cosine of the angle at sample j between i and k."""
    directions = F.normalize(features[None] - features[:, None], dim=2, eps=TINY)
    return directions @ directions.transpose(1, 2)


def _similarities(features: Tensor) -> Tensor:
    """(N, ...) -> (N, N), rows of unit length."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
