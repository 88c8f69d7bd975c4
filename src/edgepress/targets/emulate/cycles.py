"""Instruction counts from executed blocks, and a *modelled* cycle count for Cortex-M4-like pipelines.

The model is the instruction timing table of the Cortex-M4 Technical Reference Manual (ARM 100166, section 3.3.1) with
memory of no wait states: a load takes 2 cycles, or 1 right behind another load or store; LDRD and STRD 3; LDM, STM,
PUSH and POP of N registers 1 + N; a store, multiplication or data operation 1; a division 7 (of 2..12); a
taken branch 3. Measured silicon took 1.25 to 1.43 times as long on four
published networks (flash wait states): good enough to rank.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from edgepress.targets.emulate.elf import Image

BRANCH_REFILL = 2  # on top of the branch's own cycle
DIVISION = 7
WIDE = (0b11101, 0b11110, 0b11111)  # first five bits of 32-bit Thumb instructions


@dataclass(frozen=True)
class Block:
    """A stretch of code that ran: how often, how often it was left by a jump, and while which layer was at work."""

    layer: str
    address: int
    size: int
    times: int
    jumps: int


@dataclass(frozen=True)
class Cost:
    instructions: int = 0
    cycles: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.instructions + other.instructions, self.cycles + other.cycles)


def costs(image: Image, blocks: Iterable[Block], riscv: bool) -> dict[str, Cost]:
    """Per layer ("" before the first): executed instructions, and modelled cycles (0 on RISC-V: no model)."""
    segments = dict(image.segments)

    @cache
    def of(address: int, size: int) -> Cost:
        base = max(b for b in segments if b <= address)
        code = segments[base][address - base : address - base + size]
        return _riscv(code) if riscv else _thumb(code)

    total: dict[str, Cost] = {}
    for block in blocks:
        one = of(block.address, block.size)
        penalty = 0 if riscv else block.jumps * BRANCH_REFILL
        cost = Cost(one.instructions * block.times, one.cycles * block.times + penalty)
        total[block.layer] = total.get(block.layer, Cost()) + cost
    return total


def _riscv(code: bytes) -> Cost:
    at = count = 0
    while at < len(code):
        at += 4 if code[at] & 3 == 3 else 2
        count += 1
    return Cost(count)


def _thumb(code: bytes) -> Cost:
    halves = struct.unpack(f"<{len(code) // 2}H", code)
    at = count = cycles = 0
    after_memory = False
    while at < len(halves):
        wide = halves[at] >> 11 in WIDE
        taken, after_memory = (
            _wide(halves[at], halves[at + 1], after_memory) if wide else _narrow(halves[at], after_memory)
        )
        cycles += taken
        count += 1
        at += 2 if wide else 1
    return Cost(count, cycles)


def _single(load: bool, after_memory: bool) -> tuple[int, bool]:
    """Cycles of one load or store, and that the next may be pipelined behind it."""
    return (1 if after_memory or not load else 2), True


def _narrow(half: int, after_memory: bool) -> tuple[int, bool]:
    top = half >> 12
    if half >> 11 == 0b01001:  # LDR literal
        return _single(True, after_memory)
    if top == 0b0101:  # register offset: 0..2 store, 3..7 load
        return _single(half >> 9 & 7 >= 3, after_memory)
    if top in (0b0110, 0b0111, 0b1000, 0b1001):
        return _single(bool(half >> 11 & 1), after_memory)
    if top == 0b1100:  # LDM, STM
        return 1 + (half & 0xFF).bit_count(), False
    if half & 0xF600 == 0xB400:  # PUSH, POP
        return 1 + (half & 0x1FF).bit_count(), False
    return 1, False


def _wide(first: int, second: int, after_memory: bool) -> tuple[int, bool]:
    if first & 0xFE40 == 0xE800:  # LDM, STM
        return 1 + second.bit_count(), False
    if first & 0xFE40 == 0xE840:  # LDRD, STRD (and the rare exclusives)
        return 3, False
    if first & 0xFE00 == 0xF800:
        return _single(bool(first >> 4 & 1), after_memory)
    if first & 0xFFD0 == 0xFB90 and second >> 4 & 15 == 15:  # SDIV, UDIV
        return DIVISION, False
    return 1, False
