"""Budgets checked against the targets before any work: a promise that cannot be judged must not cost a run."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol

from edgepress.errors import UserError
from edgepress.gate.budget import Budget


class Place(Protocol):
    """What a promise needs to know of a target."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...


COUNTED_ONCE = frozenset(
    {"size_bytes", "compressed_bytes", "params", "macs", "largest_activation_bytes", "operators", "churn"}
    | {"parity_max_abs", "parity_flip_rate", "worst_class_accuracy", "worst_slice_accuracy"}
)
"""Metrics that belong to no target."""

ON_HOSTS = ("latency_", "load_ms", "first_inference_ms", "peak_", "runtime_memory_", "throughput_", "energy_")
"""How the metrics begin that a machine with an operating system gives, and a microcontroller does not."""

ON_CORES = ("flash_", "ram_", "arena_", "stack_", "constant_", "instructions", "modelled_cycles", "mismatched_bytes")


def check_targets(budgets: Sequence[Budget], targets: Sequence[Place]) -> None:
    """Raise `UserError` for a budget that names a target the recipe has not, or names none where several measure it."""
    for budget in budgets:
        if budget.target:
            _check_named(budget, targets)
        elif budget.metric not in COUNTED_ONCE:
            _check_alone(budget, [target.name for target in targets if _measures(target, budget.metric)])


def check_integers(targets: Sequence[Place], *, quantized: bool) -> None:
    """Raise `UserError` where a float network is to run on a core that runs integers alone.

    Args:
        quantized: whether the network comes quantized, or a step of the recipe quantizes it.
    """
    core = next((target.name for target in targets if target.kind == "mcu"), "")
    if core and not quantized:
        others = ", ".join(target.name for target in targets if target.kind != "mcu") or "local-cpu"
        raise UserError(
            f"target {core}: it runs integers alone",
            found="no quantize step",
            expected="a quantize step, or other targets",
            fix=f"add `- quantize: {{}}`, or: --set targets=[{others}] --set budgets=[]",
        )


def _measures(target: Place, metric: str) -> bool:
    foreign = ON_HOSTS if target.kind == "mcu" else ON_CORES
    return not metric.startswith(foreign)


def _check_named(budget: Budget, targets: Sequence[Place]) -> None:
    names = [target.name for target in targets]
    if budget.target in names:
        return
    near = get_close_matches(budget.target, names, n=1)
    raise UserError(
        f"budget on {budget.metric}: the recipe has no target {budget.target!r}",
        found=budget.target,
        expected=", ".join(names),
        fix=f"did you mean `target: {near[0]}`?" if near else "add it to `targets`, or name one of these",
    )


def _check_alone(budget: Budget, names: Sequence[str]) -> None:
    if len(names) > 1:
        raise UserError(
            f"budget on {budget.metric}: several targets measure it",
            found=", ".join(names),
            expected="one of them in the budget's `target`",
            fix=f"add `target: {names[0]}` to the budget",
        )
