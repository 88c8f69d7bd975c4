"""Instruction lengths and the cycle table, on hand-assembled Thumb and RISC-V."""

import struct

import pytest

from edgepress.targets.emulate import cycles
from edgepress.targets.emulate.cycles import Block, Cost
from edgepress.targets.emulate.elf import Image


def image(*halves: int) -> Image:
    return Image(((0x100, struct.pack(f"<{len(halves)}H", *halves)),), {}, ())


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        ((0x4608,), Cost(1, 1)),  # mov r0, r1
        ((0x6808,), Cost(1, 2)),  # ldr r0, [r1]
        ((0x6808, 0x6849), Cost(2, 3)),  # two loads: the second is pipelined
        ((0x6008,), Cost(1, 1)),  # str r0, [r1]
        ((0xB5F0,), Cost(1, 6)),  # push {r4-r7, lr}: 1 + 5
        ((0xE9D1, 0x2300), Cost(1, 3)),  # ldrd r2, r3, [r1]
        ((0xE8B1, 0x003C), Cost(1, 5)),  # ldm r1!, {r2-r5}
        ((0xFB92, 0xF1F3), Cost(1, 7)),  # sdiv
        ((0xFB21, 0x0203), Cost(1, 1)),  # smlad
        ((0xF851, 0x0B04), Cost(1, 2)),  # ldr r0, [r1], #4
    ],
)
def test_thumb(halves: tuple[int, ...], expected: Cost) -> None:
    block = Block("l", 0x100, 2 * len(halves), 1, 0)
    assert cycles.costs(image(*halves), [block], riscv=False) == {"l": expected}


def test_taken_branches_cost_a_refill_and_blocks_add_up() -> None:
    blocks = [Block("a", 0x100, 2, 10, 4), Block("a", 0x100, 4, 1, 0), Block("b", 0x102, 2, 3, 0)]
    found = cycles.costs(image(0x4608, 0x4608), blocks, riscv=False)
    assert found == {"a": Cost(12, 20), "b": Cost(3, 3)}


def test_riscv_counts_both_lengths_and_models_nothing() -> None:
    block = Block("l", 0x100, 6, 5, 5)
    assert cycles.costs(image(0x0001, 0x0013, 0x0000), [block], riscv=True) == {"l": Cost(10, 0)}
