"""The first meter that answers is taken; where none does, each one's reason is told."""

import time
from pathlib import Path

import pytest

from edgepress import targets
from edgepress.targets.meters import NoMeter, open_meter
from edgepress.targets.meters.nvml import open_nvml, sampled_power


def with_meters(*meters: str, **settings: object) -> targets.Target:
    return targets.Target.model_validate({"name": "t", "capability": "c", "meters": meters, "meter_settings": settings})


def test_a_target_without_meters(tmp_path: Path) -> None:
    with pytest.raises(NoMeter, match="has no energy meter") as caught:
        open_meter(with_meters(), root=tmp_path)
    assert caught.value.found == "its file names none"


def test_the_first_that_answers(tmp_path: Path) -> None:
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "energy1_input").write_text("5")
    meter = open_meter(with_meters("rapl", "hwmon"), root=tmp_path)
    assert meter.name == "hwmon"


def test_every_refusal_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoMeter) as caught:
        open_meter(with_meters("rapl", "hwmon", "ina3221"), root=tmp_path)
    assert all(words in caught.value.found for words in ("no RAPL", "no hwmon", "no INA3221"))


def test_a_meter_that_needs_settings(tmp_path: Path) -> None:
    with pytest.raises(NoMeter) as caught:
        open_meter(with_meters("ppk2"), root=tmp_path)
    assert "millivolts" in caught.value.found or "not installed" in caught.value.found


def test_nvml_without_a_gpu() -> None:
    pytest.importorskip("pynvml")
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("there is a GPU")
    with pytest.raises(NoMeter, match="NVML has no such GPU"):
        open_nvml()


@pytest.mark.gpu
def test_the_energy_counter_agrees_with_power_integrated_over_time() -> None:
    if not Path("/proc/driver/nvidia/version").exists():
        pytest.skip("no GPU")
    counter, power = open_nvml(), sampled_power()
    start = counter.joules(), power.joules()
    time.sleep(5)
    spent = counter.joules() - start[0], power.joules() - start[1]
    power.close()
    assert spent[0] == pytest.approx(spent[1], rel=0.1)
