import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.measure.throughput import measure_throughput


def test_samples_per_second_counts_the_batch(spinner):
    rates = {}
    for batch in (1, 8):
        x = {"x": np.zeros((batch, 3), np.float32)}
        result = measure_throughput(lambda: spinner(0.001), x, seconds=0.05, repeats=3)
        rates[batch] = result.value
        assert result.n == len(result.samples) == 3
        assert result.better == "higher"
    assert 0 < rates[1] <= 1000
    assert rates[8] > 2 * rates[1]


def test_nothing_to_measure(spinner):
    with pytest.raises(UserError, match="nothing to measure"):
        measure_throughput(lambda: spinner(0), {"x": np.zeros((1, 3))}, callers=0)


def test_every_caller_has_a_session_of_its_own_and_all_are_closed(spinner):
    opened = []

    def open_one():
        opened.append(spinner(0.0005))
        return opened[-1]

    result = measure_throughput(open_one, {"x": np.zeros((1, 3))}, callers=3, seconds=0.02, repeats=1)
    assert len(opened) == 3
    assert all(session.closed for session in opened)
    assert "3 caller(s)" in result.method
