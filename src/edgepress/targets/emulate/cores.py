"""The microcontroller cores that can be compiled for and emulated, with the flags and memory maps each needs."""

from dataclasses import dataclass

from edgepress.errors import UserError


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        gcc: flags of arm-none-eabi-gcc or riscv64-unknown-elf-gcc. zig: flags of `zig cc`.
        unicorn: CPU model of unicorn, "" if it has none. machine: qemu-system board, "" if none.
        flash, ram: base addresses on that board. cycles: `cycles.py` models this core's pipeline.
    """

    name: str
    gcc: tuple[str, ...]
    zig: tuple[str, ...]
    unicorn: str
    machine: str
    flash: int = 0x00000000
    ram: int = 0x20000000
    riscv: bool = False
    cycles: bool = False


def _arm(name: str, machine: str, zig_cpu: str, unicorn: str = "", flash: int = 0, ram: int = 0x20000000) -> Core:
    # Integer code only: the soft-float ABI keeps the FPU out of prologues and spills on every core alike.
    gcc = (f"-mcpu={name}", "-mthumb", "-mfloat-abi=soft")
    zig = ("-target", "thumb-freestanding-eabi", f"-mcpu={zig_cpu}")
    return Core(name, gcc, zig, unicorn, machine, flash, ram, cycles=name == "cortex-m4")


_CORES = (
    # qemu's micro:bit has 256 KB; the bigger board runs M0 code unchanged.
    _arm("cortex-m0", "mps2-an385", "cortex_m0", "CORTEX_M0"),
    _arm("cortex-m3", "mps2-an385", "cortex_m3", "CORTEX_M3"),
    _arm("cortex-m4", "mps2-an386", "cortex_m4", "CORTEX_M4"),
    _arm("cortex-m7", "mps2-an500", "cortex_m7", "CORTEX_M7"),
    _arm("cortex-m33", "mps2-an505", "cortex_m33+dsp", "CORTEX_M33", 0x10000000, 0x38000000),
    # MVE needs the hard-float ABI's registers; unicorn has no such core.
    Core(
        "cortex-m55",
        ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),
        ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m55"),
        "",
        "mps3-an547",
    ),
    Core(
        "rv32imc",
        ("-march=rv32imc", "-mabi=ilp32"),
        ("-target", "riscv32-freestanding", "-mcpu=generic_rv32+m+c"),
        "RISCV32",
        "virt",
        0x80000000,
        0x80800000,
        riscv=True,
    ),
)
CORES = {core.name: core for core in _CORES}


def core_named(name: str) -> Core:
    """Look a core up. Raises UserError listing the known ones."""
    if name not in CORES:
        raise UserError(
            f"unknown core {name!r}", found=name, expected=", ".join(CORES), fix=f"use e.g. {_CORES[2].name}"
        )
    return CORES[name]
