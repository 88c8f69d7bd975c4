"""Runs one image in unicorn: the child process. Its library is GPL-2.0, so it is kept out of ours.

`python -m edgepress.targets.emulate.unicorn_child FOLDER` reads job.json there, writes outputs.bin and counts.json:
executed blocks per layer with how often each ran and how often it was left by a jump. Nothing is interpreted here.
"""

import json
import sys
from pathlib import Path
from typing import Any

from edgepress.targets.emulate import elf
from edgepress.targets.emulate.cores import CORES, Core

PAGE = 0x1000
STOP = 0x0F000000
PAINT = 0xA5
BLOCK_HOOK = 1 << 3  # UC_HOOK_BLOCK


class Counter:
    """Counts executed blocks, split by the layer function that was entered last."""

    def __init__(self, layers: dict[int, str]) -> None:
        self.layers = layers
        self.counts: dict[str, dict[tuple[int, int], list[int]]] = {"": {}}
        self.current = self.counts[""]
        self.last: list[int] = [0, 0]
        self.follows = -1

    def on_block(self, _engine: Any, address: int, size: int, _data: Any) -> None:
        if address != self.follows:
            self.last[1] += 1
        name = self.layers.get(address)
        if name is not None:
            self.current = self.counts.setdefault(name, {})
        self.last = self.current.setdefault((address, size), [0, 0])
        self.last[0] += 1
        self.follows = address + size

    def rows(self) -> list[tuple[str, int, int, int, int]]:
        rows = (
            (layer, *key, times, jumps)
            for layer, blocks in self.counts.items()
            for key, (times, jumps) in blocks.items()
        )
        return list(rows)


class Machine:
    """One core with an image, a stack and an arena."""

    def __init__(self, core: Core, image: elf.Image, arena_bytes: int, stack_bytes: int) -> None:
        import unicorn
        from unicorn import arm_const, riscv_const
        from unicorn.unicorn_py3.unicorn import Uc

        if core.riscv:
            self.engine = Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
            names = ("A0", "SP", "RA")
            self.registers = [getattr(riscv_const, f"UC_RISCV_REG_{name}") for name in names]
        else:
            self.engine = Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
            self.engine.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{core.unicorn}"))
            self.registers = [getattr(arm_const, f"UC_ARM_REG_{name}") for name in ("R0", "SP", "LR")]
        self.thumb = 0 if core.riscv else 1
        self.stack_bytes = stack_bytes
        self.stack = core.ram
        self.arena = core.ram + stack_bytes
        pages = {page for at, data in image.segments for page in range(at // PAGE, -(-(at + len(data)) // PAGE))}
        for page in pages:  # segments may share one
            self.engine.mem_map(page * PAGE, PAGE)
        for address, data in image.segments:
            self.engine.mem_write(address, data)
        self.engine.mem_map(self.stack, -(-(stack_bytes + arena_bytes) // PAGE) * PAGE)
        self.engine.mem_map(STOP, PAGE)

    def call(self, address: int, argument: int) -> None:
        for register, value in zip(self.registers, (argument, self.arena, STOP | self.thumb), strict=True):
            self.engine.reg_write(register, value)
        self.engine.emu_start(address | self.thumb, STOP)

    def paint_stack(self) -> None:
        self.engine.mem_write(self.stack, bytes([PAINT]) * self.stack_bytes)

    def stack_used(self) -> int:
        memory = self.engine.mem_read(self.stack, self.stack_bytes)
        return self.stack_bytes - next((i for i, byte in enumerate(memory) if byte != PAINT), self.stack_bytes)


def main(work: Path) -> None:
    """Run the job in a folder: the first `counted` inferences with block counts, the rest at full speed.

    An inference is a list of steps (function, offset and size of what to read after it): the whole model with nothing
    to read, or layer by layer with each layer's output.
    """
    job = json.loads((work / "job.json").read_text())
    image = elf.read(Path(job["image"]))
    machine = Machine(CORES[job["core"]], image, job["arena_bytes"], job["stack_bytes"])
    counter = Counter({image.symbols[name]: name for name in job["layers"]})
    hook = machine.engine.hook_add(BLOCK_HOOK, counter.on_block)
    machine.paint_stack()
    inputs, outputs, steps, at = (work / "inputs.bin").read_bytes(), bytearray(), bytearray(), 0
    for index in range(job["vectors"]):
        if index == job["counted"]:
            machine.engine.hook_del(hook)
        for offset, size in job["inputs"]:
            machine.engine.mem_write(machine.arena + offset, inputs[at : at + size])
            at += size
        for name, offset, size in job["steps"]:
            machine.call(image.symbols[name], machine.arena)
            steps += machine.engine.mem_read(machine.arena + offset, size)
        for offset, size in job["outputs"]:
            outputs += machine.engine.mem_read(machine.arena + offset, size)
    (work / "outputs.bin").write_bytes(bytes(outputs))
    (work / "steps.bin").write_bytes(bytes(steps))
    (work / "counts.json").write_text(json.dumps({"blocks": counter.rows(), "stack_bytes": machine.stack_used()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
