"""Budgets against targets, before any work."""

import pytest

from edgepress.errors import UserError
from edgepress.gate.budget import Budget
from edgepress.recipe.promises import check_integers, check_targets
from edgepress.targets import load

HOSTS_AND_CORE = ("local-cpu", "openvino-cpu", "cortex-m4")


@pytest.mark.parametrize(
    ("metric", "target", "names"),
    [
        ("size_bytes", "", HOSTS_AND_CORE),
        ("flash_bytes", "", HOSTS_AND_CORE),
        ("latency_p99_ms", "", ("local-cpu", "cortex-m4")),
        ("latency_ms", "openvino-cpu", HOSTS_AND_CORE),
        ("accuracy", "", ("local-cpu",)),
    ],
)
def test_a_promise_that_can_be_judged(metric: str, target: str, names: tuple[str, ...]) -> None:
    check_targets([Budget(metric=metric, max=1, target=target)], [load(name) for name in names])


@pytest.mark.parametrize(
    ("metric", "target", "found", "fix"),
    [
        ("latency_ms", "", "local-cpu, openvino-cpu", "target: local-cpu"),
        ("accuracy", "", "local-cpu, openvino-cpu, cortex-m4", "target: local-cpu"),
        ("latency_ms", "local-cp", "local-cp", "did you mean `target: local-cpu`?"),
        ("latency_ms", "raspberry-pi-5", "raspberry-pi-5", "add it to `targets`"),
    ],
)
def test_a_promise_that_cannot(metric: str, target: str, found: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        check_targets([Budget(metric=metric, max=1, target=target)], [load(name) for name in HOSTS_AND_CORE])
    assert caught.value.found == found
    assert caught.value.fix is not None and fix in caught.value.fix


def test_a_float_network_has_no_place_on_a_core_of_integers() -> None:
    targets = [load(name) for name in HOSTS_AND_CORE]
    check_integers(targets, quantized=True)
    with pytest.raises(UserError, match="runs integers alone") as caught:
        check_integers(targets, quantized=False)
    assert "--set targets=[" in caught.value.fix
