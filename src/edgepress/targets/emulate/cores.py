"""The microcontroller cores that can be compiled for and emulated, with the flags and memory maps each needs."""

from dataclasses import dataclass

from edgepress.errors import UserError


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        gcc: flags of arm-none-eabi-gcc or riscv64-unknown-elf-gcc, empty if it cannot. zig: flags of `zig cc`.
        unicorn: CPU model of unicorn, "" if it has none. machine: qemu-system board, "" if none.
        cpu: qemu's CPU where it is not the board's own.
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
    cpu: str = ""


def _arm(name: str, machine: str, zig_cpu: str, unicorn: str = "", flash: int = 0, ram: int = 0x20000000) -> Core:
    # Integer code only: the soft-float ABI keeps the FPU out of prologues and spills on every core alike.
    gcc = (f"-mcpu={name}", "-mthumb", "-mfloat-abi=soft")
    zig = ("-target", "thumb-freestanding-eabi", f"-mcpu={zig_cpu}")
    return Core(name, gcc, zig, unicorn, machine, flash, ram, cycles=name == "cortex-m4")


_FREESTANDING = ("-mabi=ilp32", "-ffreestanding", "-nostdlib")  # distributions ship this gcc without a C library


def _riscv(name: str, extensions: str, gcc: tuple[str, ...], unicorn: str, cpu: str = "") -> Core:
    zig = ("-target", "riscv32-freestanding", f"-mcpu=generic_rv32+{extensions}")
    return Core(name, gcc, zig, unicorn, "virt", 0x80000000, 0x80800000, riscv=True, cpu=cpu)


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
    _riscv("rv32imc", "m+c", ("-march=rv32imc", *_FREESTANDING), "RISCV32"),
    # Intrinsics of vectors came with gcc 14, so clang it is; unicorn's RISC-V is older than vectors.
    _riscv("rv32imcv", "m+c+zve32x", (), "", "rv32,v=true,vlen=128"),
)
CORES = {core.name: core for core in _CORES}


def core_named(name: str) -> Core:
    """Look a core up. Raises UserError listing the known ones."""
    if name not in CORES:
        raise UserError(
            f"unknown core {name!r}", found=name, expected=", ".join(CORES), fix=f"use e.g. {_CORES[2].name}"
        )
    return CORES[name]
