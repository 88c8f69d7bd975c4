"""What the machine did meanwhile, read from synthetic /proc and /sys trees."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgepress.targets.worker.conditions import Conditions, disturbances, observe

QUIET = Conditions(
    seconds=0, own_s=0, busy_s=0, stolen_s=0, throttle_events=0, frequencies_mhz=(2000.0, 2000.0), cores=2
)
AFTER = replace(QUIET, seconds=10, own_s=10, busy_s=10)


def tree(root: Path, stat: str = "cpu  100 1 50 900 7 2 3 40 0 0\ncpu0 1 2 3\n", khz: int = 2_400_000) -> Path:
    (root / "proc").mkdir(parents=True)
    (root / "proc/stat").write_text(stat)
    for core in (0, 1):
        cpu = root / f"sys/devices/system/cpu/cpu{core}"
        (cpu / "cpufreq").mkdir(parents=True)
        (cpu / "cpufreq/scaling_cur_freq").write_text(f"{khz}\n")
        (cpu / "thermal_throttle").mkdir()
        (cpu / "thermal_throttle/core_throttle_count").write_text(f"{core + 1}\n")
    return root


def test_counters_are_read(tmp_path):
    seen = observe(tree(tmp_path))
    assert seen.busy_s == pytest.approx((100 + 1 + 50 + 2 + 3) / 100)
    assert seen.stolen_s == pytest.approx(0.40)
    assert seen.throttle_events == 3
    assert seen.frequencies_mhz == (2400.0, 2400.0)


@pytest.mark.parametrize("stat", ["", "cpu  1 2\n", "cpu a b c d e f g h\n"])
def test_counters_that_cannot_be_read_are_unknown(tmp_path, stat):
    seen = observe(tree(tmp_path, stat=stat))
    assert (seen.busy_s, seen.stolen_s) == (None, None)


def test_an_empty_tree_tells_nothing_and_warns_of_nothing(tmp_path):
    before = observe(tmp_path)
    assert before.throttle_events is None
    assert disturbances(before, replace(before, seconds=before.seconds + 5)) == ()


def test_a_quiet_machine_has_no_warnings():
    assert disturbances(QUIET, AFTER) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"busy_s": 16.0}, "other processes used 30%"),
        ({"stolen_s": 1.0}, "took 5.0%"),
        ({"throttle_events": 4}, "throttled for heat 4"),
        ({"frequencies_mhz": (2000.0, 1500.0)}, "frequency changed by 25%"),
    ],
)
def test_each_disturbance_is_named(change, words):
    (warning,) = disturbances(QUIET, replace(AFTER, **change))
    assert words in warning


def test_an_interval_shorter_than_a_few_ticks_says_nothing_about_neighbours():
    after = replace(AFTER, seconds=0.1, own_s=0.05, busy_s=0.15)
    assert disturbances(QUIET, after) == ()
