"""Power as told by programs: real child processes that print what vcgencmd and powermetrics print."""

import io
import plistlib
import sys
import time
from pathlib import Path

import pytest

from edgepress.targets.meters.commands import (
    interval_joules,
    open_pi5_pmic,
    open_powermetrics,
    parse_pmic,
    split_plists,
)
from edgepress.targets.meters.meter import NoMeter

PMIC = """\
 3V7_WL_SW_A current(0)=0.08490000A
   3V3_SYS_A current(1)=0.10000000A
  VDD_CORE_A current(7)=2.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.80000000V
     EXT5V_V volt(24)=5.10000000V
      BATT_V volt(25)=0.00000000V
"""
WATTS = 0.0849 * 3.7 + 0.1 * 3.3 + 2.0 * 0.8


def test_rails_that_show_both_are_summed() -> None:
    """EXT5V has no current of its own: it is the input, and left out."""
    assert parse_pmic(PMIC) == pytest.approx(WATTS)


@pytest.mark.parametrize("text", ["", 'error=1 error_msg="Command not registered"', " EXT5V_V volt(24)=5.1V\n"])
def test_a_board_without_rails(text: str) -> None:
    with pytest.raises(NoMeter, match="shows no power rails"):
        parse_pmic(text)


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_the_pmic_is_read_through_a_process(tmp_path: Path) -> None:
    before = time.perf_counter()
    meter = open_pi5_pmic(script(tmp_path, f"print('''{PMIC}''')"))
    opened = time.perf_counter()
    time.sleep(0.1)
    asked, joules, answered = time.perf_counter(), meter.joules(), time.perf_counter()
    meter.close()
    assert WATTS * (asked - opened) * 0.999 <= joules <= WATTS * (answered - before) * 1.001


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["no-such-program-anywhere"], "no no-such-program-anywhere"),
        ([sys.executable, "-c", "import sys; sys.exit('VCHI initialization failed')"], "failed"),
    ],
)
def test_programs_that_are_missing_or_fail(command: list[str], what: str) -> None:
    with pytest.raises(NoMeter, match=what):
        open_pi5_pmic(command)


def document(milliwatts: float, milliseconds: float) -> bytes:
    return plistlib.dumps({"elapsed_ns": int(milliseconds * 1e6), "processor": {"combined_power": milliwatts}})


def test_a_stream_of_property_lists_is_split_at_zero_bytes() -> None:
    stream = io.BytesIO(document(1000, 100) + b"\0" + document(3000, 200) + b"\0")
    assert [interval_joules(d) for d in split_plists(stream)] == pytest.approx([0.1, 0.6])


@pytest.mark.parametrize(
    ("processor", "joules"),
    [
        ({"combined_power": 500.0}, 0.05),
        ({"package_watts": 7.0}, 0.7),
        ({"package_energy": 120}, 0.12),
        ({}, 0.0),
    ],
)
def test_energy_of_an_interval(processor: dict[str, float], joules: float) -> None:
    assert interval_joules({"elapsed_ns": 100_000_000, "processor": processor}) == pytest.approx(joules)


def test_powermetrics_is_summed_while_it_runs(tmp_path: Path) -> None:
    program = f"""
import sys, time
for i in range(400):
    sys.stdout.buffer.write({document(2000, 10)!r} + b"\\0"); sys.stdout.buffer.flush(); time.sleep(0.01)
"""
    meter = open_powermetrics(script(tmp_path, program))
    before = meter.joules()
    time.sleep(0.2)
    documents = (meter.joules() - before) / 0.02
    meter.close()
    assert 2 <= documents <= 21
    assert documents == pytest.approx(round(documents))


def test_powermetrics_that_ends_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoMeter, match="powermetrics ended") as caught:
        open_powermetrics(script(tmp_path, "import sys; sys.exit('powermetrics must be invoked as the superuser')"))
    assert "superuser" in caught.value.found


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has powermetrics")
def test_powermetrics_elsewhere() -> None:
    with pytest.raises(NoMeter, match="no powermetrics"):
        open_powermetrics()
