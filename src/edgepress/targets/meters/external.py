"""Meters in the power line of a device: Joulescope, Nordic PPK2, or anything that prints lines of numbers on a port."""

from __future__ import annotations

import csv
import io
import threading
import time
from typing import Any

from edgepress.targets.meters.meter import Meter, NoMeter, SamplingMeter

PPK2_SAMPLES_PER_S = 100_000
SERIAL_TIMEOUT_S = 2.0


def open_joulescope() -> Meter:
    """The one Joulescope on USB; it counts energy itself, two million samples a second.

    Raises:
        NoMeter: the library or the instrument is missing, or there are several.
    """
    try:
        import joulescope
    except ImportError:
        raise NoMeter("no Joulescope", found="its library is not installed", fix="pip install joulescope") from None
    try:
        device = joulescope.scan_require_one(config="auto")
        device.open()
    except Exception as error:  # the driver's exceptions share no base class
        raise NoMeter("no Joulescope", found=str(error)) from None
    return Joulescope(device)


class Joulescope:
    """Integrates the instrument's own statistics, twice a second by its default."""

    name = "joulescope"
    covers = "Joulescope: everything behind it in the supply line"
    period_s = 0.5

    def __init__(self, device: Any) -> None:
        self._device = device
        self._joules = 0.0
        self._start: float | None = None
        self._arrived = threading.Event()
        device.statistics_callback_register(self._on_statistics, "sensor")
        if not self._arrived.wait(5 * self.period_s):
            self.close()
            raise NoMeter("the Joulescope sends no readings", found=f"nothing in {5 * self.period_s:g} s")

    def joules(self) -> float:
        self._arrived.clear()
        if not self._arrived.wait(5 * self.period_s):
            raise NoMeter("the Joulescope stopped sending readings")
        return self._joules

    def close(self) -> None:
        self._device.close()

    def _on_statistics(self, data: Any) -> None:
        total = float(data["accumulators"]["energy"]["value"])  # J since the instrument was opened
        self._start = total if self._start is None else self._start
        self._joules = total - self._start
        self._arrived.set()


def open_ppk2(millivolts: int, port: str = "") -> Meter:
    """The Nordic Power Profiler Kit II as an ampere meter in a supply of known voltage.

    Args:
        millivolts: of the supply: the kit measures current only. port: its serial port; the only one if empty.

    Raises:
        NoMeter: the library or the kit is missing.
    """
    try:
        from ppk2_api.ppk2_api import PPK2_API
    except ImportError:
        raise NoMeter("no PPK2", found="its library is not installed", fix="pip install ppk2-api") from None
    try:
        kit = PPK2_API(port or _only_ppk2(PPK2_API), timeout=1)
        kit.get_modifiers()
        kit.set_source_voltage(millivolts)
        kit.use_ampere_meter()
        kit.start_measuring()
    except OSError as error:  # pyserial's errors are OSErrors
        raise NoMeter("the PPK2 does not answer", found=str(error)) from None
    return Ppk2(kit, millivolts)


def _only_ppk2(api: Any) -> str:
    ports = api.list_devices()
    if len(ports) != 1:
        raise NoMeter("which PPK2?", found=f"{len(ports)} on USB", expected="one, or its port in the target file")
    first = ports[0]  # newer releases add the serial number
    return str(first[0] if isinstance(first, tuple) else first)


class Ppk2:
    """Sums the samples that a thread fetches: charge times voltage."""

    name = "ppk2"
    period_s = 0.01

    def __init__(self, kit: Any, millivolts: int) -> None:
        self.covers = f"PPK2: current times a supply of {millivolts} mV"
        self._kit, self._volts = kit, millivolts * 1e-3
        self._joules = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="edgepress-ppk2", daemon=True)
        self._thread.start()

    def joules(self) -> float:
        if not self._thread.is_alive():
            raise NoMeter("the PPK2 stopped answering")
        return self._joules

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self._kit.stop_measuring()

    def _collect(self) -> None:
        while not self._done.wait(self.period_s):
            data = self._kit.get_data()
            if data:
                samples = self._kit.get_samples(data)
                microamperes = samples[0] if isinstance(samples, tuple) else samples
                self._joules += sum(microamperes) * 1e-6 * self._volts / PPK2_SAMPLES_PER_S


def open_serial_csv(port: str, column: int = 0, scale: float = 1.0, baud: int = 115200) -> Meter:
    """Any instrument that prints lines of comma-separated numbers, one of which is power.

    Args:
        column: which number of a line. scale: watts per unit of it (1e-3 for milliwatts).

    Raises:
        NoMeter: pyserial or the port is missing, or no line with such a number comes.
    """
    try:
        import serial
    except ImportError:
        raise NoMeter("no serial port", found="pyserial is not installed", fix="pip install pyserial") from None
    try:
        line = serial.Serial(port, baud, timeout=SERIAL_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise NoMeter(f"serial port {port} cannot be opened", found=str(error)) from None
    return _line_meter(line, port, column, scale)


def _line_meter(line: Any, port: str, column: int, scale: float) -> Meter:
    def watts() -> float:
        return parse_line(line.readline().decode(errors="replace"), port, column) * scale

    watts()  # the first line may have been cut in two
    started = time.perf_counter()
    for _ in range(5):
        watts()
    period = (time.perf_counter() - started) / 5
    return SamplingMeter("serial-csv", f"power printed on {port}, column {column}", watts, max(period, 1e-3))


def parse_line(text: str, port: str, column: int) -> float:
    """The number in that column of one line.

    Raises:
        NoMeter: nothing came in time, or there is no number in that place.
    """
    cells = next(csv.reader(io.StringIO(text)), [])
    try:
        return float(cells[column])
    except (IndexError, ValueError):
        found = repr(text[:60]) if text else f"nothing in {SERIAL_TIMEOUT_S:g} s"
        raise NoMeter(f"no power in column {column} of {port}", found=found) from None
