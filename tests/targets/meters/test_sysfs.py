"""Energy counters and power sensors on synthetic /sys trees: wrap-around, missing permission, vanished counters."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepress.targets.meters.meter import Meter, NoMeter
from edgepress.targets.meters.sysfs import open_hwmon, open_ina3221, open_rapl


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def rapl_zone(root: Path, zone: str, name: str, energy: int = 0, largest: int = 262_143_328_850) -> Path:
    return write(root / "sys/class/powercap" / zone, name=name, energy_uj=energy, max_energy_range_uj=largest)


def watts_within(opener: Callable[[Path], Meter], root: Path, watts: float) -> Meter:
    """Open a sampling meter, let it run, and hold its joules against the shortest and longest time it can have seen."""
    before = time.perf_counter()
    meter = opener(root)
    opened = time.perf_counter()
    time.sleep(0.05)
    asked = time.perf_counter()
    joules = meter.joules()
    answered = time.perf_counter()
    meter.close()
    assert watts * (asked - opened) * 0.999 <= joules <= watts * (answered - before) * 1.001
    return meter


# -- RAPL ------------------------------------------------------------------------------------------------------------


def test_packages_and_their_dram_are_summed_and_nothing_twice(tmp_path: Path) -> None:
    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",  # inside the package
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",  # contains the packages
        "intel-rapl-mmio:0": "package-0",  # the same package by another door
    }
    folders = {zone: rapl_zone(tmp_path, zone, name, energy=1000) for zone, name in zones.items()}
    meter = open_rapl(tmp_path)
    for folder in folders.values():
        (folder / "energy_uj").write_text("2001000")
    assert meter.joules() == pytest.approx(3 * 2.0)
    assert "package-0 + package-0 dram + package-1" in meter.covers


def test_joules_start_at_zero_and_grow(tmp_path: Path) -> None:
    zone = rapl_zone(tmp_path, "intel-rapl:0", "package-0", energy=5_000_000)
    meter = open_rapl(tmp_path)
    assert meter.joules() == 0
    for total in (1, 2, 3):
        (zone / "energy_uj").write_text(str(5_000_000 + total * 1_000_000))
        assert meter.joules() == pytest.approx(total)


def test_wrap_around(tmp_path: Path) -> None:
    zone = rapl_zone(tmp_path, "intel-rapl:0", "package-0", energy=9_000_000, largest=10_000_000)
    meter = open_rapl(tmp_path)
    for reading, joules in ((9_900_000, 0.9), (400_000, 1.4), (9_999_999, 10.999999), (0, 11.0)):
        (zone / "energy_uj").write_text(str(reading))
        assert meter.joules() == pytest.approx(joules)


def test_a_counter_of_unknown_range_that_goes_back_was_reset(tmp_path: Path) -> None:
    zone = rapl_zone(tmp_path, "intel-rapl:0", "package-0", energy=9)
    (zone / "max_energy_range_uj").unlink()
    meter = open_rapl(tmp_path)
    (zone / "energy_uj").write_text("3")
    with pytest.raises(NoMeter, match="went backwards"):
        meter.joules()


def test_a_vanished_counter(tmp_path: Path) -> None:
    zone = rapl_zone(tmp_path, "intel-rapl:0", "package-0")
    meter = open_rapl(tmp_path)
    shutil.rmtree(zone)
    with pytest.raises(NoMeter, match="stopped answering"):
        meter.joules()


def test_a_counter_that_shows_nonsense(tmp_path: Path) -> None:
    zone = rapl_zone(tmp_path, "intel-rapl:0", "package-0")
    (zone / "energy_uj").write_text("")
    with pytest.raises(NoMeter, match="stopped answering"):
        open_rapl(tmp_path)


def test_no_counters_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoMeter, match="no RAPL counters"):
        open_rapl(tmp_path)


@contextmanager
def somebody_else() -> Iterator[Path]:
    """A folder that others may list, and for its duration the rights of nobody in particular."""
    folder = Path(tempfile.mkdtemp(prefix="edgepress-meters-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_counter_that_only_root_may_read() -> None:
    with somebody_else() as root:
        zone = rapl_zone(root, "intel-rapl:0", "package-0")
        (zone / "energy_uj").chmod(0o400 if os.getuid() == 0 else 0)
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(NoMeter, match="may not be read") as caught:
            open_rapl(root)
        assert f"sudo chmod a+r {zone / 'energy_uj'}" in caught.value.fix


# -- hwmon -----------------------------------------------------------------------------------------------------------


def test_hwmon_energy_counters_come_before_power(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon/hwmon0", name="acpi", power1_input=7_000_000)
    chip = write(tmp_path / "sys/class/hwmon/hwmon1", name="amd_energy", energy1_input=100, energy1_label="Esocket0")
    meter = open_hwmon(tmp_path)
    (chip / "energy1_input").write_text("2000100")
    assert meter.joules() == pytest.approx(2.0)
    assert meter.covers == "hwmon amd_energy: Esocket0"


def test_hwmon_power_is_integrated_over_time(tmp_path: Path) -> None:
    write(
        tmp_path / "sys/class/hwmon/hwmon3", name="ina226", power1_input=4_000_000, power2_input=1_000_000,
        update_interval=5,
    )  # fmt: skip
    assert watts_within(open_hwmon, tmp_path, 5.0).period_s == 0.005


def test_power_that_changes_is_followed(tmp_path: Path) -> None:
    chip = write(tmp_path / "sys/class/hwmon/hwmon0", name="ina226", power1_input=0, update_interval=2)
    meter = open_hwmon(tmp_path)
    try:
        time.sleep(0.05)
        quiet = meter.joules()
        (chip / "power1_input").write_text("10000000")
        time.sleep(0.05)
        assert quiet == 0
        assert meter.joules() > 0.25
    finally:
        meter.close()


def test_a_sensor_that_vanishes_is_an_error_from_then_on(tmp_path: Path) -> None:
    chip = write(tmp_path / "sys/class/hwmon/hwmon0", name="ina226", power1_input=1, update_interval=2)
    meter = open_hwmon(tmp_path)
    (chip / "power1_input").unlink()
    time.sleep(0.02)
    for _ in range(2):
        with pytest.raises(NoMeter, match="stopped answering"):
            meter.joules()
    meter.close()


def test_hwmon_without_power(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon/hwmon0", name="coretemp", temp1_input=40_000)
    with pytest.raises(NoMeter, match="no hwmon energy or power sensor") as caught:
        open_hwmon(tmp_path)
    assert "1 chip(s)" in caught.value.found


# -- INA3221 ---------------------------------------------------------------------------------------------------------


def test_jetson_total_input_is_preferred_to_its_parts(tmp_path: Path) -> None:
    """An Orin's monitor: VDD_IN contains the other rails, which must not be added to it."""
    write(
        tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3",
        in1_label="VDD_IN", in1_input=5000, curr1_input=1000,
        in2_label="VDD_CPU_GPU_CV", in2_input=5000, curr2_input=400,
        in4_label="sum of shunt voltages", in4_input=12,
    )  # fmt: skip
    meter = watts_within(open_ina3221, tmp_path, 5.0)
    assert meter.covers == "INA3221 VDD_IN: the module's input"


def test_jetson_without_a_total_sums_its_rails(tmp_path: Path) -> None:
    write(
        tmp_path / "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1",
        rail_name_0="VDD_GPU", in_power0_input=1500, rail_name_1="VDD_CPU", in_power1_input=500,
    )  # fmt: skip
    meter = watts_within(open_ina3221, tmp_path, 2.0)
    assert "these rails only" in meter.covers


def test_not_a_jetson(tmp_path: Path) -> None:
    with pytest.raises(NoMeter, match="no INA3221"):
        open_ina3221(tmp_path)
