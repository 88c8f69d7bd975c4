"""Power as told by a program of the system: the Raspberry Pi 5's vcgencmd, macOS's powermetrics.

Standard library only, Python 3.9 and later: the worker on a board runs this file as it is.
"""

from __future__ import annotations

import functools
import plistlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

from edgepress.targets.meters.meter import Meter, NoMeter, SamplingMeter

COMMAND_TIMEOUT_S = 5
# A call of vcgencmd takes some milliseconds: more of them would be measured themselves.
PMIC_PERIOD_S = 0.2
POWERMETRICS_PERIOD_S = 0.1
PMIC_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)


def open_pi5_pmic(command: Sequence[str] = ("vcgencmd", "pmic_read_adc")) -> Meter:
    """The rails that the Raspberry Pi 5's power chip watches: less than wall power (USB and losses are outside).

    Raises:
        NoMeter: no vcgencmd, or it does not know the rails (every board before the Pi 5).
    """
    read = functools.partial(_pmic_watts, command)
    read()
    return SamplingMeter("pi5-pmic", "Raspberry Pi 5 PMIC rails: below wall power", read, PMIC_PERIOD_S)


def parse_pmic(text: str) -> float:
    """Watts from `vcgencmd pmic_read_adc`: the sum of V * A over rails that show both.

    Raises:
        NoMeter: not a single rail shows both.
    """
    found: dict[str, dict[str, float]] = {}
    for rail, kind, value in PMIC_LINE.findall(text):
        found.setdefault(rail, {})[kind] = float(value)
    rails = [rail for rail in found.values() if len(rail) == 2]
    if not rails:
        raise NoMeter("vcgencmd shows no power rails", found=text.strip()[:80], expected="a Raspberry Pi 5")
    return sum(rail["A"] * rail["V"] for rail in rails)


def _pmic_watts(command: Sequence[str]) -> float:
    return parse_pmic(_output(command))


def _output(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        raise NoMeter(f"no {command[0]}", found="not on the PATH")
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoMeter(f"{command[0]} does not answer", found=str(error)) from None
    if done.returncode != 0:
        raise NoMeter(f"{command[0]} failed", found=(done.stderr or done.stdout).strip()[:120])
    return done.stdout


def open_powermetrics(command: Sequence[str] | None = None) -> Meter:
    """CPU, GPU and neural engine of a Mac, as its own model of them says; needs root.

    Raises:
        NoMeter: not macOS, or sudo would ask for a password.
    """
    return Powermetrics(
        command
        or ["sudo", "-n", "powermetrics", "--samplers", "cpu_power,gpu_power,ane_power", "-f", "plist",
            "-i", str(round(POWERMETRICS_PERIOD_S * 1000))]
    )  # fmt: skip


class Powermetrics:
    """Sums the energy of each interval that the running program reports."""

    name = "powermetrics"
    covers = "macOS powermetrics: CPU, GPU and neural engine, modelled by Apple's firmware; not the display or DRAM"
    period_s = POWERMETRICS_PERIOD_S

    def __init__(self, command: Sequence[str]) -> None:
        if shutil.which("powermetrics") is None and "powermetrics" in command:
            raise NoMeter("no powermetrics", found="not on the PATH", expected="macOS")
        self._process = subprocess.Popen(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._joules, self._intervals = 0.0, 0
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="edgepress-powermetrics", daemon=True)
        self._thread.start()
        self._first.wait(COMMAND_TIMEOUT_S)
        if self._intervals == 0:
            failure = self._failure()
            self.close()
            raise failure

    def joules(self) -> float:
        if self._process.poll() is not None:
            raise self._failure()
        return self._joules

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(COMMAND_TIMEOUT_S)
        self._thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _failure(self) -> NoMeter:
        if self._thread.is_alive():  # its output is still open
            return NoMeter("powermetrics does not answer", found=f"nothing in {COMMAND_TIMEOUT_S} s")
        stderr = self._process.stderr.read() if self._process.stderr else b""
        return NoMeter("powermetrics ended", found=stderr.decode(errors="replace").strip()[:120] or "no message",
                       fix="run as root, or allow it in sudoers")  # fmt: skip

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for document in split_plists(self._process.stdout):
            self._joules += interval_joules(document)
            self._intervals += 1
            self._first.set()
        self._first.set()


def split_plists(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The property lists of a stream in which a zero byte separates them."""
    lines: list[bytes] = []
    for line in stream:
        lines.append(line.lstrip(b"\0"))
        if line.strip() == b"</plist>":
            yield plistlib.loads(b"".join(lines))
            lines = []


def interval_joules(document: dict[str, Any]) -> float:
    """Energy of one interval: combined power (mW) times its length (ns); older systems give package_energy in mJ."""
    processor = document.get("processor", {})
    seconds = document.get("elapsed_ns", 0) * 1e-9
    if "combined_power" in processor:
        return float(processor["combined_power"]) * 1e-3 * seconds
    if "package_watts" in processor:  # Intel Macs
        return float(processor["package_watts"]) * seconds
    return float(processor.get("package_energy", 0)) * 1e-3
