"""Energy counters and power sensors that Linux shows as files: powercap (RAPL), hwmon, INA3221 of Jetson boards.

Standard library only, Python 3.9 and later: the worker on a board runs this file as it is.
"""

from __future__ import annotations

import functools
from pathlib import Path

from edgepress.targets.meters.meter import CounterMeter, Meter, NoMeter, SamplingMeter, WrappingCounter

# RAPL refreshes its counters about every millisecond (Intel SDM vol. 3B, section 16.10.1).
RAPL_PERIOD_S = 0.001
# Sensors without an update_interval are read ten times a second.
SENSOR_PERIOD_S = 0.1


def open_rapl(root: Path = Path("/")) -> Meter:
    """CPU packages and their DRAM from /sys/class/powercap; Intel and AMD alike.

    Zones inside a package (core, uncore) are part of it and left out, as is psys, which contains the packages.

    Raises:
        NoMeter: no such counters, or they belong to root alone (the default since CVE-2020-8694).
    """
    zones = _rapl_zones(root / "sys/class/powercap")
    if not zones:
        raise NoMeter("no RAPL counters", found="no package under /sys/class/powercap",
                      expected="a physical Intel or AMD machine; virtual machines hide them")  # fmt: skip
    counters = [
        WrappingCounter(functools.partial(_read, zone / "energy_uj"), _optional(zone / "max_energy_range_uj"))
        for zone in zones.values()
    ]
    covers = f"RAPL {' + '.join(zones)}: the CPU package(s), not the board, disks or power supply"
    return CounterMeter("rapl", covers, counters, 1e-6, RAPL_PERIOD_S)


def open_hwmon(root: Path = Path("/")) -> Meter:
    """Energy counters (energy*_input, uJ) of hwmon, or else power sensors (power*_input, uW), all of one chip.

    Raises:
        NoMeter: no chip has either, or they may not be read.
    """
    chips = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    for chip in chips:
        counters = sorted(chip.glob("energy*_input"))
        if counters:
            readers = [WrappingCounter(functools.partial(_read, path), None) for path in counters]
            return CounterMeter("hwmon", _covers(chip, counters), readers, 1e-6, _period(chip))
    for chip in chips:
        sensors = sorted(chip.glob("power*_input"))
        if sensors:
            return SamplingMeter("hwmon", _covers(chip, sensors), functools.partial(_watts, sensors), _period(chip))
    raise NoMeter("no hwmon energy or power sensor", found=f"{len(chips)} chip(s) under /sys/class/hwmon")


def open_ina3221(root: Path = Path("/")) -> Meter:
    """The power monitor of NVIDIA Jetson boards: its total input rail where there is one, else all rails.

    Raises:
        NoMeter: not such a board, or the files may not be read.
    """
    rails = _jetson_rails(root / "sys/bus/i2c/drivers")
    if not rails:
        raise NoMeter("no INA3221 power monitor", found="none under /sys/bus/i2c/drivers", expected="a Jetson board")
    total = {name: rail for name, rail in rails.items() if name in ("VDD_IN", "POM_5V_IN", "VIN")}
    chosen = total or rails
    covers = f"INA3221 {' + '.join(chosen)}: " + ("the module's input" if total else "these rails only")
    return SamplingMeter("ina3221", covers, lambda: sum(_rail_watts(rail) for rail in chosen.values()), SENSOR_PERIOD_S)


Rail = tuple[Path, ...]  # one file of milliwatts, or a file of millivolts and one of milliamperes


def _jetson_rails(drivers: Path) -> dict[str, Rail]:
    """Rail name -> its files; hwmon of current kernels, else the iio files of old JetPack releases."""
    rails: dict[str, Rail] = {}
    for label in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in*_label")):
        number = label.name[len("in") : -len("_label")]
        volts, amperes = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
        if amperes.exists():  # inputs 4 and up are shunt voltages without a current
            rails[label.read_text().strip()] = (volts, amperes)
    for name in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_*")):
        number = name.name[len("rail_name_") :]
        rails[name.read_text().strip()] = (name.with_name(f"in_power{number}_input"),)
    return rails


def _rail_watts(rail: Rail) -> float:
    if len(rail) == 1:
        return _read(rail[0]) * 1e-3
    millivolts, milliamperes = map(_read, rail)
    return millivolts * milliamperes * 1e-6


def _rapl_zones(powercap: Path) -> dict[str, Path]:
    """Zone name -> folder. A package also shown by the MMIO driver counts once."""
    zones: dict[str, Path] = {}
    for folder in sorted(powercap.glob("*rapl*:*"), key=lambda path: ("mmio" in path.name, path.name)):
        name = _text(folder / "name")
        if name.startswith("package"):
            zones.setdefault(name, folder)
        elif name == "dram":
            package = _text(folder.with_name(folder.name.rpartition(":")[0]) / "name")
            zones.setdefault(f"{package} dram".strip(), folder)
    return zones


def _covers(chip: Path, inputs: list[Path]) -> str:
    labels = [_text(path.with_name(path.name.replace("_input", "_label"))) or path.name for path in inputs]
    return f"hwmon {_text(chip / 'name') or chip.name}: {', '.join(labels)}"


def _period(chip: Path) -> float:
    """The chip's own update interval (ms in the file), if it has one."""
    interval = _optional(chip / "update_interval")
    return interval * 1e-3 if interval else SENSOR_PERIOD_S


def _watts(sensors: list[Path]) -> float:
    return sum(map(_read, sensors)) * 1e-6


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except PermissionError:
        raise NoMeter(
            f"{path} may not be read", found="readable by root only", fix=f"sudo chmod a+r {path} (until the next boot)"
        ) from None
    except (OSError, ValueError) as error:
        raise NoMeter(f"{path} stopped answering", found=str(error)) from None


def _optional(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
