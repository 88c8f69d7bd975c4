"""Energy per inference on a machine that is a file: its counter rises with time and with every run."""

import time
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import UserError
from edgepress.measure.energy import MeteredHere, Repeat, _summary, measure_energy
from edgepress.measure.modelled import carbon_mass, modelled_energy
from edgepress.measure.record import Measurement
from edgepress.targets.meters import NoMeter
from edgepress.targets.meters.sysfs import open_rapl

IDLE_W, RUN_MJ = 5.0, 30.0


class Machine:
    """A synthetic RAPL package that burns 5 W whatever happens, and 30 mJ more per run."""

    def __init__(self, root: Path, largest: int = 10**12) -> None:
        self.zone = root / "sys/class/powercap/intel-rapl:0"
        self.zone.mkdir(parents=True)
        (self.zone / "name").write_text("package-0\n")
        (self.zone / "max_energy_range_uj").write_text(str(largest))
        self.root, self.largest, self.joules, self.then = root, largest, 0.0, time.perf_counter()
        self.run_mj = RUN_MJ
        self.tick()

    def tick(self, extra: float = 0.0) -> None:
        now = time.perf_counter()
        self.joules += IDLE_W * (now - self.then) + extra
        self.then = now
        (self.zone / "energy_uj").write_text(str(int(self.joules * 1e6) % self.largest))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        self.tick()

    def run(self) -> None:
        time.sleep(0.002)
        self.tick(self.run_mj * 1e-3)

    def open(self) -> "Watched":
        return Watched(self)

    def measure(self, **settings) -> dict[str, Measurement]:
        settings = {"repeats": 4, "window_s": 0.1, "cooldown_s": 0.0, **settings}
        found = measure_energy(lambda: MeteredHere(self.open(), self.run, self.sleep), target="t", **settings)
        return {m.name: m for m in found}


class Watched:
    """The machine's RAPL meter; its counter is brought up to date before each reading, as the hardware does."""

    def __init__(self, machine: Machine) -> None:
        machine.tick()
        self._machine, self._meter = machine, open_rapl(machine.root)
        self.name, self.covers, self.period_s = self._meter.name, self._meter.covers, self._meter.period_s

    def joules(self) -> float:
        if self._machine.zone.joinpath("energy_uj").exists():
            self._machine.tick()
        return self._meter.joules()

    def close(self) -> None:
        self._meter.close()


def test_idle_is_subtracted(tmp_path: Path) -> None:
    found = Machine(tmp_path).measure()
    energy, total, idle = found["energy_mj"], found["energy_total_mj"], found["idle_power_w"]
    # wide: on a busy machine time passes between reading the meter and reading the clock
    assert energy.value == pytest.approx(RUN_MJ, rel=0.3)
    assert total.value > energy.value + 0.5 * IDLE_W * 2.0
    assert idle.value == pytest.approx(IDLE_W, rel=0.3)
    assert energy.low < energy.value < energy.high
    assert energy.n == 4 and energy.source == "measured" and energy.target == "t"
    assert "RAPL package-0" in energy.method


def test_a_counter_that_wraps_in_nearly_every_window(tmp_path: Path) -> None:
    found = Machine(tmp_path, largest=2_500_000).measure()
    assert found["energy_mj"].value == pytest.approx(RUN_MJ, rel=0.3)


def test_runs_that_cost_nothing_are_not_told_apart_from_idle(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run_mj = 0.0
    energy = machine.measure()["energy_mj"]
    assert energy.value is None
    assert "not told apart from idle" in energy.reason


def test_no_meter_gives_none_with_the_reason(tmp_path: Path) -> None:
    found = measure_energy(lambda: MeteredHere(open_rapl(tmp_path), int), target="t")
    assert [m.name for m in found] == ["energy_mj", "energy_total_mj", "idle_power_w"]
    assert all(m.value is None and "no RAPL counters" in m.reason and m.n == 0 for m in found)


def test_a_meter_that_vanishes_in_the_middle(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    calls = iter(range(10**6))

    def run() -> None:
        if next(calls) == 10:
            (machine.zone / "energy_uj").unlink()

    found = measure_energy(lambda: MeteredHere(open_rapl(tmp_path), run), repeats=3, window_s=0.05, cooldown_s=0)
    assert all(m.value is None and "stopped answering" in m.reason for m in found)


def test_the_meter_is_closed_whatever_happens(tmp_path: Path) -> None:
    class Lost:
        name, covers, period_s, closed = "lost", "", 0.001, False

        def joules(self) -> float:
            raise NoMeter("gone")

        def close(self) -> None:
            self.closed = True

    meter = Lost()
    measure_energy(lambda: MeteredHere(meter, int), window_s=0.05, cooldown_s=0)
    assert meter.closed


def test_too_short_a_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too short for rapl"):
        Machine(tmp_path).measure(window_s=0.005)


def test_too_few_repeats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few repeats"):
        Machine(tmp_path).measure(repeats=2)


def test_the_interval_covers_by_simulation() -> None:
    """Repeats with normal noise in energy and idle power: the 95 % interval holds the truth at least that often."""

    class Ideal:
        name, covers, period_s = "ideal", "", 0.0

    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        seen = [Repeat(10 * 5 + 1000 * 0.030 + rng.normal(0, 2), 10.0, 1000, 5 + rng.normal(0, 0.1)) for _ in range(5)]
        energy = _summary(seen, Ideal(), 10.0, "")[0]
        covered.append(energy.low <= 30 <= energy.high)
    assert np.mean(covered) > 0.93


# -- modelled --------------------------------------------------------------------------------------------------------


def test_a_modelled_estimate_says_so() -> None:
    energy = modelled_energy(40_000_000, 1_000_000, number_format="int8")
    assert energy.source == "modelled"
    assert "Horowitz" in energy.method
    assert energy.value == pytest.approx((40e6 * 0.3 + 1e6 * 162.5) * 1e-9)


def test_int8_is_modelled_as_cheaper_than_float() -> None:
    formats = [modelled_energy(10**6, 0, number_format=f).value for f in ("int8", "float16", "float32")]
    assert formats == sorted(formats)


def test_negative_counts() -> None:
    with pytest.raises(UserError, match="negative"):
        modelled_energy(-1, 0, number_format="int8")


MEASURED = Measurement(name="energy_mj", value=3600.0, unit="mJ", n=5, low=3000, high=4200, method="RAPL")


def test_carbon_from_measured_energy() -> None:
    carbon = carbon_mass(MEASURED, 400.0, "grid operator 2025")
    assert carbon.value == pytest.approx(400.0)  # 3.6 J = 1e-6 kWh; times 400 g/kWh = 400 ug
    assert carbon.low < carbon.value < carbon.high
    assert "grid operator 2025" in carbon.method


def test_carbon_of_the_unknown_is_unknown() -> None:
    nothing = Measurement(name="energy_mj", value=None, unit="mJ", reason="no meter")
    assert carbon_mass(nothing, 400.0, "x").reason == "no meter"


@pytest.mark.parametrize(
    ("energy", "intensity", "source"),
    [
        (modelled_energy(1, 1, number_format="int8"), 400.0, "x"),
        (MEASURED, 400.0, ""),
        (MEASURED, -1.0, "x"),
    ],
)
def test_carbon_is_refused_without_evidence(energy: Measurement, intensity: float, source: str) -> None:
    with pytest.raises(UserError):
        carbon_mass(energy, intensity, source)
