"""INA219, INA226 and their kin over I2C: a power monitor soldered into a supply line, read without a kernel driver.

Power is bus voltage times shunt voltage over the shunt's resistance: both registers count in fixed steps, so that the
chip needs no calibration. With the kernel's ina2xx driver loaded use the meter `hwmon` instead.

Standard library only, Python 3.9 and later: the worker on a board runs this file as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgepress.targets.meters.meter import Meter, NoMeter, SamplingMeter

I2C_SLAVE = 0x0703  # linux/i2c-dev.h
SHUNT_VOLTAGE, BUS_VOLTAGE = 0x01, 0x02
INA2XX_PERIOD_S = 0.01


class Chip(NamedTuple):
    """Volts per count of the shunt's register and of the bus's, and by how many bits the latter is shifted."""

    shunt_step: float
    bus_step: float
    bus_shift: int


# Datasheets SBOS448 (INA219) and SBOS547 (INA226).
CHIPS = {"ina219": Chip(10e-6, 4e-3, 3), "ina226": Chip(2.5e-6, 1.25e-3, 0)}

Read = Callable[[int], bytes]


def open_ina2xx(bus: int = 1, address: int = 0x40, shunt_ohms: float = 0.1, chip: str = "ina226") -> Meter:
    """The monitor at `address` of `/dev/i2c-<bus>`.

    Args:
        shunt_ohms: of the resistor in the line. chip: ina219 (and ina220), or ina226 (and ina230, ina231).

    Raises:
        NoMeter: no such bus, it may not be opened, nobody answers at that address, or the chip is not known.
    """
    if chip not in CHIPS or shunt_ohms <= 0:
        raise NoMeter("an INA2xx is not set up", found=f"chip {chip}, shunt {shunt_ohms:g} ohm",
                      expected=f"chip {' or '.join(CHIPS)} and a shunt above 0 ohm")  # fmt: skip
    read = _reader(Path(f"/dev/i2c-{bus}"), address)
    return ina2xx_meter(read, CHIPS[chip], shunt_ohms, f"{chip} at 0x{address:02x} of i2c-{bus}")


def ina2xx_meter(read: Read, chip: Chip, shunt_ohms: float, place: str) -> Meter:
    """A meter over a function that reads a register (two bytes)."""

    def watts() -> float:
        try:
            return power(read(SHUNT_VOLTAGE), read(BUS_VOLTAGE), chip, shunt_ohms)
        except OSError as error:
            raise NoMeter(f"{place} does not answer", found=error.strerror or str(error)) from None

    watts()
    return SamplingMeter("ina2xx", f"{place}: everything behind its shunt", watts, INA2XX_PERIOD_S)


def power(shunt: bytes, bus: bytes, chip: Chip, shunt_ohms: float) -> float:
    """Watts from the two registers, big-endian; the shunt's is signed: what flows back counts negative."""
    (shunt_count,), (bus_count,) = struct.unpack(">h", shunt), struct.unpack(">H", bus)
    volts = (bus_count >> chip.bus_shift) * chip.bus_step
    return float(volts * shunt_count * chip.shunt_step / shunt_ohms)


def _reader(device: Path, address: int) -> Read:
    import fcntl  # not on Windows

    try:
        line = device.open("r+b", buffering=0)
        fcntl.ioctl(line, I2C_SLAVE, address)
    except PermissionError:
        raise NoMeter(f"{device} may not be opened", found="not in its group", fix="sudo adduser $USER i2c") from None
    except OSError as error:
        raise NoMeter(f"no I2C bus at {device}", found=error.strerror or str(error),
                      fix="enable I2C (raspi-config, or modprobe i2c-dev)") from None  # fmt: skip

    def read(register: int) -> bytes:
        line.write(bytes((register,)))
        return line.read(2)

    return read
