"""What the generator knows about each core: instruction set, compiler flags, and an example board's memory map."""

from dataclasses import dataclass

from edgepress.errors import UserError


@dataclass(frozen=True)
class CoreTarget:
    """A core to generate for.

    Attributes:
        isa: which kernels may be used: c99 (portable), narrow and scalar (plain
            C tiles for few or many registers), thumb2, dsp, mve, rvv (RISC-V vectors, Zve32x).
        board: qemu machine whose memory map the example uses; flash and ram: (origin, length) of it.
    """

    name: str
    isa: str
    gcc: str
    flags: tuple[str, ...]
    board: str = ""
    flash: tuple[int, int] = (0, 0x400000)
    ram: tuple[int, int] = (0x20000000, 0x400000)

    @property
    def riscv(self) -> bool:
        return self.gcc.startswith("riscv")


def _arm(name: str, isa: str, board: str, flash: int = 0, ram: int = 0x20000000, size: int = 0x400000) -> CoreTarget:
    abi = "hard" if isa == "mve" else "soft"
    flags = (f"-mcpu={name}", "-mthumb", f"-mfloat-abi={abi}")
    return CoreTarget(name, isa, "arm-none-eabi-gcc", flags, board, (flash, size), (ram, size))


def _riscv(name: str, isa: str, march: str) -> CoreTarget:
    # Freestanding: distributions ship this compiler without a C library, and none is needed.
    flags = (f"-march={march}", "-mabi=ilp32", "-ffreestanding", "-nostdlib")
    memory = (0x80000000, 0x400000), (0x80400000, 0x400000)
    return CoreTarget(name, isa, "riscv64-unknown-elf-gcc", flags, "virt", *memory)


_ALL = (
    CoreTarget("host", "c99", "cc", ()),
    _arm("cortex-m0", "narrow", "mps2-an385"),
    _arm("cortex-m3", "thumb2", "mps2-an385"),
    _arm("cortex-m4", "dsp", "mps2-an386"),
    _arm("cortex-m7", "dsp", "mps2-an500"),
    _arm("cortex-m33", "dsp", "mps2-an505", 0x10000000, 0x38000000),
    _arm("cortex-m55", "mve", "mps3-an547", size=0x80000),
    _riscv("rv32imc", "scalar", "rv32imc"),
    _riscv("rv32imcv", "rvv", "rv32imc_zicsr_zve32x"),
)
CORES = {core.name: core for core in _ALL}


def core_named(name: str) -> CoreTarget:
    """Look a core up. Raises UserError listing the known ones."""
    if name not in CORES:
        raise UserError(f"no C target {name!r}", found=name, expected=", ".join(CORES), fix="use e.g. cortex-m4")
    return CORES[name]
