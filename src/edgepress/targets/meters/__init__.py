"""Energy meters: `open_meter` takes the first of a target's meters that answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.targets.meters.meter import Meter, NoMeter

if TYPE_CHECKING:
    from edgepress.targets.target import MeterName, Target

__all__ = ["Meter", "NoMeter", "open_meter"]


def open_meter(target: Target, *, root: Path = Path("/")) -> Meter:
    """The first of the target's meters that is there and may be read.

    Args:
        root: where /sys is looked for (another tree in tests).

    Raises:
        NoMeter: none of them; says of each why.
    """
    refusals = []
    for name in target.meters:
        try:
            return _open(name, target, root)
        except NoMeter as refusal:
            refusals.append(refusal)
    raise NoMeter(
        f"target {target.name} has no energy meter that can be read",
        found="; ".join(f"{r.what} ({r.found})" if r.found else r.what for r in refusals) or "its file names none",
        fix=next((r.fix for r in refusals if r.fix), ""),
    )


def _open(name: MeterName, target: Target, root: Path) -> Meter:
    from edgepress.targets.meters import commands, external, i2c, nvml, sysfs

    settings: dict[str, Any] = dict(target.meter_settings.get(name, {}))
    openers: dict[str, Any] = {
        "rapl": lambda: sysfs.open_rapl(root),
        "hwmon": lambda: sysfs.open_hwmon(root),
        "ina3221": lambda: sysfs.open_ina3221(root),
        "nvml": lambda: nvml.open_nvml(target.device),
        "pi5-pmic": commands.open_pi5_pmic,
        "powermetrics": commands.open_powermetrics,
        "joulescope": external.open_joulescope,
        "ppk2": external.open_ppk2,
        "serial-csv": external.open_serial_csv,
        "ina2xx": i2c.open_ina2xx,
    }
    try:
        return openers[name](**settings)
    except TypeError as error:
        raise NoMeter(f"meter {name} is not set up", found=str(error), fix=f"see meter_settings.{name}") from None
