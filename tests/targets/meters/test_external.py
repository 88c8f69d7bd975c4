"""Instruments in the supply line. There is none here: a pseudo-terminal stands for the serial port, and small
stand-ins speak the calls of the vendors' libraries (ppk2-api 0.9, joulescope 1.1)."""

import os
import pty
import threading
import time

import pytest

from edgepress.targets.meters.external import Joulescope, Ppk2, open_serial_csv, parse_line
from edgepress.targets.meters.meter import NoMeter


@pytest.fixture
def port():
    """A serial port on which an instrument prints time, milliwatts and a comment, 200 lines a second."""
    pytest.importorskip("serial")
    instrument, device = pty.openpty()
    stop = threading.Event()

    def talk() -> None:
        os.write(instrument, b"9,9\n")  # the end of a line that began before anyone listened
        while not stop.wait(0.005):
            os.write(instrument, b"12.5,2500,ok\n")

    thread = threading.Thread(target=talk)
    thread.start()
    yield os.ttyname(device)
    stop.set()
    thread.join()
    os.close(instrument)
    os.close(device)


def test_power_from_a_serial_port(port: str) -> None:
    meter = open_serial_csv(port, column=1, scale=1e-3)
    sent, first, before = time.perf_counter(), meter.joules(), time.perf_counter()
    time.sleep(0.1)
    asked, spent, answered = time.perf_counter(), meter.joules() - first, time.perf_counter()
    meter.close()
    assert 2.5 * (asked - before) * 0.999 <= spent <= 2.5 * (answered - sent) * 1.001


def test_a_column_that_is_not_there(port: str) -> None:
    with pytest.raises(NoMeter, match="no power in column 7"):
        open_serial_csv(port, column=7)


def test_a_port_that_is_not_there() -> None:
    pytest.importorskip("serial")
    with pytest.raises(NoMeter, match="cannot be opened"):
        open_serial_csv("/dev/tty-edgepress-none")


@pytest.mark.parametrize(("text", "found"), [("", "nothing in"), ("a,b", "'a,b'"), ("1", "'1'")])
def test_lines_without_the_number(text: str, found: str) -> None:
    with pytest.raises(NoMeter) as caught:
        parse_line(text, "port", 1)
    assert found in caught.value.found


class Kit:
    """100 samples of 20 mA per fetch."""

    def __init__(self) -> None:
        self.fetched, self.stopped = 0, False

    def get_data(self) -> bytes:
        self.fetched += 1
        return bytes(400)

    def get_samples(self, data: bytes) -> tuple[list[float], list[int]]:
        return [20_000.0] * (len(data) // 4), []

    def stop_measuring(self) -> None:
        self.stopped = True


def test_charge_times_voltage() -> None:
    kit = Kit()
    meter = Ppk2(kit, millivolts=3000)
    time.sleep(0.1)
    meter.close()
    assert kit.stopped
    # each fetch is 1 ms at 20 mA and 3 V
    assert meter._joules == pytest.approx(kit.fetched * 1e-3 * 0.02 * 3.0)
    with pytest.raises(NoMeter, match="stopped answering"):
        meter.joules()


class Scope:
    """Sends its statistics a few times a second from a thread of its own, as the driver does."""

    def __init__(self, readings: list[float]) -> None:
        self.readings, self.closed = readings, False

    def statistics_callback_register(self, callback, source) -> None:
        def send() -> None:
            for joules in self.readings:
                time.sleep(0.02)
                callback({"accumulators": {"energy": {"value": joules, "units": "J"}}})

        threading.Thread(target=send, daemon=True).start()

    def close(self) -> None:
        self.closed = True


def test_energy_since_it_was_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Joulescope, "period_s", 0.05)
    meter = Joulescope(Scope([10.0, 12.0, 15.0]))
    assert meter.joules() == 2.0
    assert meter.joules() == 5.0
    with pytest.raises(NoMeter, match="stopped sending"):
        meter.joules()


def test_an_instrument_that_never_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Joulescope, "period_s", 0.02)
    scope = Scope([])
    with pytest.raises(NoMeter, match="sends no readings"):
        Joulescope(scope)
    assert scope.closed
