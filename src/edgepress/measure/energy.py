"""Energy per inference: idle subtracted, over windows the meter can resolve, repeated, with its uncertainty.

One repeat is an idle window, a busy window and an idle window again; the two idle powers are averaged, so that a slow
drift of temperature cancels. No meter, or one that cannot tell busy from idle, gives `None` with the reason.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from edgepress.errors import UserError
from edgepress.measure.record import Measurement
from edgepress.targets.meters import Meter, NoMeter, open_meter
from edgepress.targets.remote.session import RemoteSession
from edgepress.targets.worker import windows
from edgepress.targets.worker.windows import Window

if TYPE_CHECKING:
    from edgepress.targets import Target
    from edgepress.targets.runtimes import Array, Session

# A reading is off by up to one period at either end: at ten periods that is already 10 % of the window.
PERIODS_PER_WINDOW = 20
MIN_PERIODS_PER_WINDOW = 10
MIN_WINDOW_S = 1.0
MIN_REPEATS = 3


class Repeat(NamedTuple):
    """What one repeat saw: busy joules, seconds and inferences, and the idle power around it."""

    joules: float
    seconds: float
    inferences: int
    idle_watts: float

    @property
    def total_mj(self) -> float:
        return 1e3 * self.joules / self.inferences

    @property
    def above_idle_mj(self) -> float:
        return 1e3 * (self.joules - self.idle_watts * self.seconds) / self.inferences


class Metered(Protocol):
    """A meter beside something that runs, here or elsewhere."""

    name: str
    covers: str
    period_s: float

    def idle(self, seconds: float) -> Window: ...

    def busy(self, seconds: float) -> Window: ...

    def close(self) -> None: ...


class MeteredHere:
    """A meter of this machine, and `run` in this process.

    Args:
        sleep: how idle time is spent (a clock of its own in tests).
    """

    def __init__(self, meter: Meter, run: Callable[[], object], sleep: Callable[[float], None] = time.sleep) -> None:
        self.name, self.covers, self.period_s = meter.name, meter.covers, meter.period_s
        self._meter, self._run, self._sleep = meter, run, sleep

    def idle(self, seconds: float) -> Window:
        return windows.idle(self._meter, seconds, self._sleep)

    def busy(self, seconds: float) -> Window:
        return windows.busy(self._meter, seconds, self._run)

    def close(self) -> None:
        self._meter.close()


def measure_session_energy(
    session: Session, inputs: Mapping[str, Array], target: Target, **settings: Any
) -> tuple[Measurement, ...]:
    """Energy of one run of an open session, with the target's meters, where the session is. See `measure_energy`."""
    if isinstance(session, RemoteSession):
        if session.why_untimed:
            return unknown(session.why_untimed, target.name)
        return measure_energy(partial(session.metered, inputs), target=target.name, **settings)
    run = partial(session.run, inputs)
    return measure_energy(lambda: MeteredHere(open_meter(target), run), target=target.name, **settings)


def measure_energy(
    open_metered: Callable[[], Metered],
    *,
    repeats: int = 5,
    window_s: float = 0.0,
    cooldown_s: float = 1.0,
    target: str = "",
) -> tuple[Measurement, ...]:
    """Energy of one inference.

    Args:
        open_metered: a meter and what it meters; raises NoMeter if there is none.
        window_s: length of a window; at least twenty periods of the meter and one second if 0.
        cooldown_s: pause before each idle window.

    Returns:
        `energy_mj`: above idle, what the inference adds. `energy_total_mj`: everything the meter saw meanwhile.
        `idle_power_w`. All `None` with the reason if there is no meter or it stops answering.

    Raises:
        UserError: fewer than three repeats, or a window shorter than ten periods.
    """
    if repeats < MIN_REPEATS:
        raise UserError("too few repeats for an uncertainty", found=str(repeats), expected=f"{MIN_REPEATS} or more")
    try:
        metered = open_metered()
    except NoMeter as refusal:
        return unknown(_reason(refusal), target)
    try:
        window_s = _window(metered, window_s)
        seen = [_repeat(metered, window_s, cooldown_s) for _ in range(repeats)]
    except NoMeter as lost:
        return unknown(_reason(lost), target)
    finally:
        metered.close()
    return _summary(seen, metered, window_s, target)


def unknown(reason: str, target: str) -> tuple[Measurement, ...]:
    """The same measurements without values."""
    names = (("energy_mj", "mJ"), ("energy_total_mj", "mJ"), ("idle_power_w", "W"))
    return tuple(Measurement(name=n, value=None, unit=unit, n=0, target=target, reason=reason) for n, unit in names)


def _reason(refusal: NoMeter) -> str:
    return f"{refusal.what}: {refusal.found}" if refusal.found else refusal.what


def _window(meter: Metered, asked_s: float) -> float:
    if asked_s and asked_s < MIN_PERIODS_PER_WINDOW * meter.period_s:
        raise UserError(
            f"an energy window of {asked_s:g} s is too short for {meter.name}",
            found=f"a reading every {meter.period_s:g} s",
            expected=f"at least {MIN_PERIODS_PER_WINDOW * meter.period_s:g} s",
        )
    return asked_s or max(MIN_WINDOW_S, PERIODS_PER_WINDOW * meter.period_s)


def _repeat(metered: Metered, window_s: float, cooldown_s: float) -> Repeat:
    time.sleep(cooldown_s)
    before = metered.idle(window_s)
    busy = metered.busy(window_s)
    time.sleep(cooldown_s)
    after = metered.idle(window_s)
    return Repeat(*busy, (before.joules / before.seconds + after.joules / after.seconds) / 2)


def _summary(seen: Sequence[Repeat], meter: Metered, window_s: float, target: str) -> tuple[Measurement, ...]:
    method = f"{meter.covers}; {len(seen)} windows of {window_s:g} s between idle windows"
    # What a window cannot resolve: one period of the meter at its ends.
    resolution = meter.period_s / window_s
    totals = [r.total_mj for r in seen]
    idle = [r.idle_watts for r in seen]
    above = _estimate("energy_mj", "mJ", [r.above_idle_mj for r in seen], resolution * statistics.fmean(totals))
    found = (
        _or_unresolved(above),
        _estimate("energy_total_mj", "mJ", totals, resolution * statistics.fmean(totals)),
        _estimate("idle_power_w", "W", idle, resolution * statistics.fmean(idle)),
    )
    return tuple(m.model_copy(update={"method": method, "target": target}) for m in found)


def _estimate(name: str, unit: str, values: Sequence[float], unresolved: float) -> Measurement:
    """Mean with a 95 % interval: Student's t over the repeats, widened by what the meter cannot resolve."""
    from scipy.stats import t

    mean, n = statistics.fmean(values), len(values)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n) + unresolved
    return Measurement(name=name, value=mean, unit=unit, n=n, low=mean - half, high=mean + half, samples=tuple(values))


def _or_unresolved(energy: Measurement) -> Measurement:
    """The energy above idle, or `None` where its interval holds zero: then the meter saw no inference at all."""
    if energy.low is not None and energy.low > 0:
        return energy
    reason = f"not told apart from idle: {energy.low:.3g} to {energy.high:.3g} mJ"
    return energy.model_copy(update={"value": None, "low": None, "high": None, "reason": reason})
