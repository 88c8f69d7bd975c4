"""Latency in turns: what is measured, in which order, and what is said about doubtful runs."""

import statistics

import numpy as np
import pytest

from edgepress import targets
from edgepress.errors import UserError
from edgepress.measure.latency import compare_latency
from edgepress.targets.runtimes import open_session

X = {"x": np.zeros((1, 3), np.float32)}


def test_medians_tell_slow_from_fast(spinner):
    result = compare_latency({"slow": spinner(0.001), "fast": spinner(0.0004)}, X, runs=30, warmup=5)
    slow, fast = result["slow"][0], result["fast"][0]
    assert slow.name == fast.name == "latency_ms"
    assert slow.value == statistics.median(slow.samples)
    assert slow.n == len(slow.samples) == 30
    assert 1.5 < statistics.median(a / b for a, b in zip(slow.samples, fast.samples, strict=True)) < 4
    assert slow.low is not None and slow.low <= slow.value <= slow.high


def test_sessions_take_turns_in_a_shuffled_order(spinner, log):
    compare_latency({"a": spinner(0, "a"), "b": spinner(0, "b")}, X, runs=50, warmup=20, seed=3)
    rounds = log[-100:]
    pairs = [tuple(rounds[i : i + 2]) for i in range(0, 100, 2)]
    assert {frozenset(pair) for pair in pairs} == {frozenset("ab")}
    assert {pair[0] for pair in pairs} == {"a", "b"}


def test_the_seed_decides_the_order(spinner, log):
    orders = []
    for seed in (1, 1, 2):
        log.clear()
        compare_latency({"a": spinner(0, "a"), "b": spinner(0, "b")}, X, runs=40, warmup=20, seed=seed)
        orders.append(tuple(log[-80:]))
    assert orders[0] == orders[1] != orders[2]


def test_samples_are_kept_in_order_of_rounds(spinner, log):
    """Every other run takes five times as long, and so does every other sample."""
    session = spinner(lambda: 0.0005 if len(log) % 2 else 0.0025, "a")
    samples = compare_latency({"a": session}, X, runs=20, warmup=0)["a"][0].samples
    first_is_short = (len(log) - 20) % 2 == 0
    short, long = (samples[0::2], samples[1::2]) if first_is_short else (samples[1::2], samples[0::2])
    assert statistics.median(long) > 2 * statistics.median(short)


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (99, {"latency_ms"}),
        (100, {"latency_ms", "latency_p90_ms"}),
        (200, {"latency_ms", "latency_p90_ms", "latency_p95_ms"}),
        (1000, {"latency_ms", "latency_p90_ms", "latency_p95_ms", "latency_p99_ms"}),
    ],
)
def test_percentiles_appear_only_as_n_supports_them(spinner, runs, names):
    result = compare_latency({"a": spinner(0)}, X, runs=runs, warmup=1)
    assert {m.name for m in result["a"]} == names


def test_each_session_may_have_inputs_of_its_own(spinner):
    a, b = spinner(0), spinner(0)
    a.run = lambda inputs: [inputs["left"]]
    b.run = lambda inputs: [inputs["right"]]
    feeds = {"a": {"left": X["x"]}, "b": {"right": X["x"]}}
    assert set(compare_latency({"a": a, "b": b}, feeds, runs=3, warmup=1)) == {"a", "b"}


def test_a_drift_is_reported(spinner):
    calls = iter(range(10_000))
    session = spinner(lambda: 0.0003 if next(calls) < 50 else 0.0006)
    result = compare_latency({"a": session}, X, runs=60, warmup=20)
    assert any("a drifted by +" in warning for warning in result.warnings)


def test_a_session_that_never_settles_is_reported(spinner):
    calls = iter(range(1, 100_000))
    session = spinner(lambda: 1e-5 * next(calls))
    result = compare_latency({"a": session}, X, runs=3, warmup=2)
    assert any("had not settled" in warning for warning in result.warnings)


def test_warm_up_runs_are_not_samples_and_are_told(spinner, log):
    result = compare_latency({"a": spinner(0.0003)}, X, runs=7, warmup=33)
    assert len(log) >= 40
    assert f"{len(log) - 7} warm-up runs" in result["a"][0].method


@pytest.mark.parametrize(("sessions", "runs"), [({}, 5), ({"a": None}, 0)])
def test_nothing_to_measure(sessions, runs):
    with pytest.raises(UserError, match="nothing to measure"):
        compare_latency(sessions, X, runs=runs)


def test_the_same_network_twice_is_as_fast_as_itself(onnx_with_weights):
    """A against A: the ratio of rounds is one, whatever else the machine does."""
    artifact, target = onnx_with_weights(4), targets.load("local-cpu")
    sessions = {"first": open_session(artifact, target), "second": open_session(artifact, target)}
    result = compare_latency(sessions, {"x": np.ones((1, 1024), np.float32)}, runs=200)
    first, second = (np.array(result[name][0].samples) for name in ("first", "second"))
    assert 0.8 < np.median(first / second) < 1.25
