"""Learning rate as a pure function of the step, so that resuming needs no scheduler state."""

import math

from edgepress.train.options import TrainOptions

STEPS_DOWN = (0.5, 0.75)  # of all steps, for the "step" schedule: He et al. 2015 used 1/2 and 3/4 on CIFAR


def learning_rate(step: int, total: int, options: TrainOptions) -> float:
    """Learning rate of step 0..total-1.

    Warm-up rises linearly and reaches `lr` at its end; "onecycle" starts at lr / 25 (Smith & Topin 2018), the others
    at lr / warm-up steps.
    """
    warm = round(options.warmup * total)
    if step < warm:
        start = 1 / 25 if options.schedule == "onecycle" else 1 / warm
        return options.lr * (start + (1 - start) * step / max(warm - 1, 1))
    return options.lr * _decay(options.schedule, (step - warm) / max(total - warm, 1), step / total, options.final_lr)


def _decay(schedule: str, after_warmup: float, overall: float, final: float) -> float:
    """Factor on `lr`; `after_warmup` and `overall` run from 0 to 1."""
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return float(0.1 ** sum(overall >= point for point in STEPS_DOWN))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * after_warmup))
