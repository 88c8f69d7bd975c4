"""What else the machine was doing while something was timed: frequency, throttling, neighbours."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

# Shares of CPU time above which a neighbour is worth a warning.
MAX_FOREIGN_SHARE = 0.05
MAX_STOLEN_SHARE = 0.01
MAX_FREQUENCY_CHANGE = 0.05
# /proc/stat counts in ticks of 10 ms: shorter intervals tell nothing about neighbours.
MIN_OBSERVED_S = 0.2


@dataclass(frozen=True)
class Conditions:
    """A snapshot of counters; `None` where the system does not tell.

    Attributes:
        seconds: monotonic clock. busy_s, stolen_s: CPU time of the whole machine since boot, spent on anything /
            taken by the hypervisor. own_s: CPU time of this process. throttle_events: thermal throttling so far.
        frequencies_mhz: current frequency per core. cores: how many CPUs share busy_s.
    """

    seconds: float
    own_s: float
    busy_s: float | None
    stolen_s: float | None
    throttle_events: int | None
    frequencies_mhz: tuple[float, ...]
    cores: int


def observe(root: Path = Path("/")) -> Conditions:
    """The conditions now, from `/proc` and `/sys` under `root` (another tree in tests)."""
    busy, stolen = _cpu_times(root / "proc/stat")
    cpus = root / "sys/devices/system/cpu"
    frequencies = [_number(path) for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    throttles = [_number(path) for path in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return Conditions(
        seconds=time.perf_counter(),
        own_s=time.process_time(),
        busy_s=busy,
        stolen_s=stolen,
        throttle_events=sum(int(n) for n in throttles if n is not None) if throttles else None,
        frequencies_mhz=tuple(khz / 1e3 for khz in frequencies if khz is not None),
        cores=os.cpu_count() or 1,
    )


def disturbances(before: Conditions, after: Conditions) -> tuple[str, ...]:
    """Everything between the two snapshots that makes timings doubtful, in words."""
    if after.seconds - before.seconds < MIN_OBSERVED_S:
        return tuple(text for text in (_throttling(before, after), _frequency(before, after)) if text)
    found = (_foreign_load(before, after), _steal(before, after), _throttling(before, after), _frequency(before, after))
    return tuple(text for text in found if text)


def _foreign_load(before: Conditions, after: Conditions) -> str:
    if before.busy_s is None or after.busy_s is None:
        return ""
    foreign = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    share = foreign / _capacity(before, after)
    if share <= MAX_FOREIGN_SHARE:
        return ""
    return f"other processes used {share:.0%} of this machine's CPU time while it was measured"


def _steal(before: Conditions, after: Conditions) -> str:
    if before.stolen_s is None or after.stolen_s is None:
        return ""
    share = (after.stolen_s - before.stolen_s) / _capacity(before, after)
    return f"the hypervisor took {share:.1%} of the CPU time away" if share > MAX_STOLEN_SHARE else ""


def _throttling(before: Conditions, after: Conditions) -> str:
    if before.throttle_events is None or after.throttle_events is None:
        return ""
    events = after.throttle_events - before.throttle_events
    return f"the CPU throttled for heat {events} time(s)" if events > 0 else ""


def _frequency(before: Conditions, after: Conditions) -> str:
    pairs = zip(before.frequencies_mhz, after.frequencies_mhz, strict=False)
    change = max((abs(new - old) / old for old, new in pairs if old), default=0.0)
    return f"a core's frequency changed by {change:.0%}" if change > MAX_FREQUENCY_CHANGE else ""


def _capacity(before: Conditions, after: Conditions) -> float:
    """CPU seconds that all cores had to offer between the snapshots."""
    return max((after.seconds - before.seconds) * before.cores, 1e-9)


def _cpu_times(path: Path) -> tuple[float | None, float | None]:
    """(busy, stolen) seconds since boot from the first line of /proc/stat (proc(5)), in clock ticks there."""
    try:
        fields = [int(text) for text in path.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None, None
    if len(fields) < 8:
        return None, None
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    ticks = float(os.sysconf("SC_CLK_TCK"))
    return (user + nice + system + irq + softirq) / ticks, steal / ticks


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
