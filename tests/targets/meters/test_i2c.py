"""INA2xx over I2C: registers of the datasheets' examples, and a bus that goes away."""

import struct
import time

import pytest

from edgepress.targets.meters.i2c import BUS_VOLTAGE, CHIPS, SHUNT_VOLTAGE, ina2xx_meter, open_ina2xx, power
from edgepress.targets.meters.meter import NoMeter


def test_the_example_of_the_ina226_datasheet() -> None:
    # Table 5 of SBOS547: 11.98 V behind 2 mOhm, 20 mV across it: bus register 2570h, shunt register 1F40h, 119.8 W.
    assert power(b"\x1f\x40", b"\x25\x70", CHIPS["ina226"], 0.002) == pytest.approx(119.8, rel=1e-3)


def test_the_example_of_the_ina219_datasheet() -> None:
    # Table 8 of SBOS448: 11.98 V behind 2 mOhm, 20 mV across it: bus register 5D98h, shunt register 07D0h, 119.8 W.
    assert power(b"\x07\xd0", b"\x5d\x98", CHIPS["ina219"], 0.002) == pytest.approx(119.8, rel=1e-3)


def test_current_that_flows_back_is_negative() -> None:
    assert power(struct.pack(">h", -400), struct.pack(">H", 4000), CHIPS["ina226"], 0.1) == pytest.approx(-0.05)


def test_power_is_integrated_over_time() -> None:
    registers = {SHUNT_VOLTAGE: struct.pack(">h", 8000), BUS_VOLTAGE: struct.pack(">H", 4000)}  # 5 V, 0.2 A
    meter = ina2xx_meter(registers.__getitem__, CHIPS["ina226"], 0.1, "ina226 at 0x40 of i2c-1")
    try:
        before, start = meter.joules(), time.perf_counter()
        time.sleep(0.1)
        joules = meter.joules() - before
        assert joules == pytest.approx(1.0 * (time.perf_counter() - start), rel=0.1)
    finally:
        meter.close()


def test_a_chip_that_stops_answering() -> None:
    answers = [b"\x00\x10"] * 4

    def read(register: int) -> bytes:
        if not answers:
            raise OSError(121, "Remote I/O error")
        return answers.pop()

    meter = ina2xx_meter(read, CHIPS["ina226"], 0.1, "ina226 at 0x40 of i2c-1")
    try:
        with pytest.raises(NoMeter, match="does not answer"):
            for _ in range(100):
                meter.joules()
    finally:
        meter.close()


@pytest.mark.parametrize("settings", [{"chip": "ina3221"}, {"shunt_ohms": 0.0}, {"bus": 987}])
def test_what_is_not_there_or_not_known(settings: dict[str, object]) -> None:
    with pytest.raises(NoMeter):
        open_ina2xx(**settings)  # type: ignore[arg-type]
