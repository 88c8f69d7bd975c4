"""Machines described from what they say of themselves, here and elsewhere."""

from pathlib import Path

import pytest

from edgepress.measure import environment
from edgepress.measure.environment import describe, machine_class
from edgepress.targets.worker.facts import facts

EPYC = """processor : 0
cpu family : 25
model : 17
model name : AMD EPYC
stepping : 1
flags : fpu avx2 avx512f avx512_vnni

processor : 1
model name : AMD EPYC
flags : fpu avx2 avx512f avx512_vnni
"""
PI = """processor : 0
Features : fp asimd asimddp
CPU implementer : 0x41
CPU part : 0xd0b

Model : Raspberry Pi 5 Model B
"""


def machine(tmp_path: Path, cpuinfo: str = EPYC, governors: tuple[str, ...] = ()) -> dict:
    (tmp_path / "proc").mkdir(exist_ok=True)
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    for core, governor in enumerate(governors):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")
    return {**facts(tmp_path), "cores": 4, "memory_bytes": 8 * 2**30}


def test_this_machine_is_described() -> None:
    here = describe(["noisy"])
    assert here.cores >= 1 and here.memory_bytes > 2**20
    assert here.tools["numpy"]
    assert "noisy" in here.warnings
    assert here.machine_class == describe().machine_class == describe(machine=facts()).machine_class


def test_a_machine_class_tells_machines_apart(tmp_path: Path) -> None:
    base = machine(tmp_path)
    assert machine_class(base) == machine_class({**base, "memory_bytes": base["memory_bytes"] + 12345})
    assert machine_class(base) == machine_class({**base, "python": "3.99", "tools": {}})
    others = [{"cpuinfo": PI}, {"cores": 2}, {"memory_bytes": 4 * 2**30}, {"cpuinfo": EPYC.replace("avx2 ", "")}]
    assert machine_class(base) not in {machine_class({**base, **change}) for change in others}


@pytest.mark.parametrize(
    ("cpuinfo", "cpu"),
    [
        (EPYC, "AMD EPYC (25 17 1) avx2 avx512f avx512_vnni"),
        (PI, "0x41 0xd0b asimddp"),
    ],
)
def test_cpu_of_x86_and_arm(tmp_path: Path, cpuinfo: str, cpu: str) -> None:
    assert describe(machine=machine(tmp_path, cpuinfo)).cpu == cpu


def test_a_machine_without_cpuinfo_still_has_a_name(tmp_path: Path) -> None:
    assert describe(machine={**machine(tmp_path, ""), "processor": "arm"}).cpu == "arm"


def test_graphics_cards_as_the_driver_lists_them(tmp_path: Path) -> None:
    folder = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   33\n")
    assert describe(machine=machine(tmp_path)).accelerators == ("NVIDIA H200",)


def test_a_governor_that_is_not_performance_is_a_standing_warning(tmp_path: Path) -> None:
    (warning,) = describe(machine=machine(tmp_path, governors=("performance", "schedutil"))).warnings
    assert "schedutil" in warning
    assert environment._standing_warnings(["performance"]) == ()


def test_another_power_mode_is_a_warning_and_another_machine(tmp_path: Path) -> None:
    board = machine(tmp_path, PI)
    assert describe(machine={**board, "power_mode": "15W"}, power_mode="15W").warnings == ()
    (warning,) = describe(machine={**board, "power_mode": "MAXN"}, power_mode="15W").warnings
    assert "MAXN" in warning and "15W" in warning
    (warning,) = describe(machine=board, power_mode="15W").warnings
    assert "unknown" in warning
    assert machine_class({**board, "power_mode": "MAXN"}) != machine_class({**board, "power_mode": "15W"})
