"""One arena for all activations and scratch: who lives when, who may lie over whom, and where everything goes.

Two buffers that live at the same time must not touch, with one exception: an operator's output may lie over an input
that dies there, as far as the kernel's order of reads and writes allows (`Overlap`). That one rule covers in-place
element-wise and depthwise layers as well as convolutions whose output trails behind the rows they still read.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgepress.exporters.c.calls import Layer, Overlap
from edgepress.exporters.c.graph import Graph, view_offset

ALIGNMENT = 4
TRIALS = 3000


@dataclass(frozen=True)
class Buffer:
    """A stretch of the arena: one tensor with its aliases, or one layer's scratch. Alive in steps first..last."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Where everything lies.

    Attributes:
        offsets: per tensor, and "scratch:<op>" per layer with scratch. arena: bytes in all.
        lower_bound: bytes that no placement can go below, given the kernels' overlaps.
        disjoint: arena bytes the same network would take if nothing overlapped.
    """

    buffers: tuple[Buffer, ...]
    offsets: dict[str, int]
    arena: int
    lower_bound: int
    disjoint: int


def align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_memory(graph: Graph, layers: Sequence[Layer]) -> MemoryPlan:
    """Place all tensors and scratch of a graph. Deterministic; optimal where `arena == lower_bound`."""
    roots = _roots(graph)
    buffers = _buffers(graph, layers, roots)
    overlaps = _overlaps(graph, layers, roots, {b.name: b for b in buffers})
    bound = _lower_bound(buffers, overlaps)
    placed = _search(buffers, overlaps, bound)
    alone = _search(buffers, {}, _lower_bound(buffers, {}))
    starts = _starts(graph)
    offsets = {name: placed[root] + starts[name] for name, root in roots.items()}
    offsets |= {name: at for name, at in placed.items() if name.startswith("scratch:")}
    return MemoryPlan(tuple(buffers), offsets, _height(buffers, placed), bound, _height(buffers, alone))


def _roots(graph: Graph) -> dict[str, str]:
    """Tensor -> the tensor whose memory it shares (reshapes and slices of one stretch)."""
    roots = {name: name for name in graph.inputs}
    for op in graph.ops:
        shared = view_offset(graph, op) is not None and op.inputs[0] in roots
        roots[op.output] = roots[op.inputs[0]] if shared else op.output
    return roots


def _starts(graph: Graph) -> dict[str, int]:
    """Tensor -> where it begins in its root, bytes."""
    starts = dict.fromkeys(graph.inputs, 0)
    for op in graph.ops:
        offset = view_offset(graph, op)
        starts[op.output] = 0 if offset is None else starts.get(op.inputs[0], 0) + offset
    return starts


def _buffers(graph: Graph, layers: Sequence[Layer], roots: dict[str, str]) -> list[Buffer]:
    first: dict[str, int] = dict.fromkeys(graph.inputs, -1)
    last: dict[str, int] = dict(first)
    for step, layer in enumerate(layers):
        first.setdefault(roots[layer.op.output], step)
        for name in (*graph.activations(layer.op), layer.op.output):
            last[roots[name]] = step
    for name in graph.outputs:
        last[roots[name]] = len(layers)
    sizes = {name: align(graph.tensor(name).nbytes) for name in first}
    buffers = [Buffer(name, sizes[name], first[name], last[name]) for name in first]
    return buffers + [_scratch(layer, step, len(layers)) for step, layer in enumerate(layers) if layer.scratch]


def _scratch(layer: Layer, step: int, steps: int) -> Buffer:
    first, last = (-1, steps) if layer.kept else (step, step)
    return Buffer(f"scratch:{layer.op.name}", align(layer.scratch), first, last)


Overlaps = dict[tuple[str, str], Overlap]
"""(output buffer, input buffer) -> how they may lie over one another."""


def _overlaps(graph: Graph, layers: Sequence[Layer], roots: dict[str, str], buffers: dict[str, Buffer]) -> Overlaps:
    found: Overlaps = {}
    starts = _starts(graph)
    for step, layer in enumerate(layers):
        out = roots[layer.op.output]
        read = [roots[name] for name in dict.fromkeys(graph.activations(layer.op))]
        for name, overlap in layer.overlaps.items():
            source = roots.get(name, name)
            if starts[name] or read.count(source) > 1:
                continue  # not the start of its root, or other parts of that are read too
            if source != out and buffers[source].last == step and buffers[out].first == step:
                found[out, source] = Overlap(align(overlap.lead), overlap.modulus)
    return found


def _together(a: Buffer, b: Buffer) -> bool:
    return a.first <= b.last and b.first <= a.last


def _lower_bound(buffers: Sequence[Buffer], overlaps: Overlaps) -> int:
    """The fullest step, with every allowed overlap counted as far as it goes for each pair by itself."""
    steps = range(min(b.first for b in buffers), max(b.last for b in buffers) + 1)
    return max(_step_bound([b for b in buffers if b.first <= step <= b.last], overlaps) for step in steps)


def _step_bound(alive: Sequence[Buffer], overlaps: Overlaps) -> int:
    sizes = {b.name: b.size for b in alive}
    total = sum(sizes.values())
    pairs = [(out, source) for out, source in overlaps if out in sizes and source in sizes]
    # Several inputs may lie under one output: each saves at most its own size.
    saved = sum(sizes[o] + sizes[s] - _pair_height(sizes[o], sizes[s], overlaps[o, s]) for o, s in pairs)
    floor = max((_pair_height(sizes[o], sizes[s], overlaps[o, s]) for o, s in pairs), default=0)
    return max(total - saved, floor, max(sizes.values(), default=0))


def _pair_height(out: int, source: int, overlap: Overlap) -> int:
    """Bytes that an output and the input it overlaps need together."""
    return min(out + source, max(out, _shift(overlap) + source))


def _shift(overlap: Overlap) -> int:
    """The smallest allowed input - output."""
    step = overlap.modulus
    while step % ALIGNMENT:
        step += overlap.modulus
    return -(-overlap.lead // step) * step


def _compatible(a: Buffer, at: int, b: Buffer, bt: int, overlaps: Overlaps) -> bool:
    """May `a` lie at `at` while `b` lies at `bt`?"""
    if not _together(a, b) or at + a.size <= bt or bt + b.size <= at:
        return True
    for (out, out_at), (source, source_at) in (((a, at), (b, bt)), ((b, bt), (a, at))):
        overlap = overlaps.get((out.name, source.name))
        if overlap is not None:
            distance = source_at - out_at
            return distance >= overlap.lead and distance % overlap.modulus == 0
    return False


def _candidates(buffer: Buffer, placed: dict[str, int], by_name: dict[str, Buffer], overlaps: Overlaps) -> list[int]:
    """Offsets worth trying: the bottom, on top of, just below, and at the allowed distances from what is placed."""
    spots = {0}
    for name, at in placed.items():
        other = by_name[name]
        spots |= {at + other.size, at - buffer.size}
        if (buffer.name, name) in overlaps:
            spots.add(at - _shift(overlaps[buffer.name, name]))
        if (name, buffer.name) in overlaps:
            overlap = overlaps[name, buffer.name]
            shift = _shift(overlap)
            step = _shift(Overlap(1, overlap.modulus))
            # The input may also end where the output ends (an output that grows faster than the input shrinks).
            flush = -(-max(shift, other.size - buffer.size) // step) * step
            spots |= {at + shift, at + flush}
    return sorted(spot for spot in spots if spot >= 0)


def _place(order: Sequence[Buffer], overlaps: Overlaps) -> dict[str, int]:
    """Each buffer in turn at the lowest offset that fits."""
    by_name = {b.name: b for b in order}
    placed: dict[str, int] = {}
    for buffer in order:
        rivals = [(by_name[name], at) for name, at in placed.items() if _together(buffer, by_name[name])]
        near = {rival.name: at for rival, at in rivals}
        placed[buffer.name] = next(
            spot
            for spot in _candidates(buffer, near, by_name, overlaps)
            if all(_compatible(buffer, spot, rival, at, overlaps) for rival, at in rivals)
        )
    return placed


def _height(buffers: Sequence[Buffer], placed: dict[str, int]) -> int:
    return max(placed[b.name] + b.size for b in buffers)


def _search(buffers: Sequence[Buffer], overlaps: Overlaps, bound: int) -> dict[str, int]:
    """The best of several orders, then of random exchanges of neighbours, until the lower bound is met."""
    keys: list[Callable[[Buffer], tuple[int, int]]] = [
        lambda b: (-b.size, b.first),
        lambda b: (b.first, -b.size),
        lambda b: (-b.last, -b.size),
        lambda b: (b.first - b.last, -b.size),
    ]
    starts = [sorted(buffers, key=key) for key in keys]
    best = min(starts, key=lambda order: _height(order, _place(order, overlaps)))
    height = _height(best, _place(best, overlaps))
    draw = random.Random(0)
    for _ in range(TRIALS if len(best) > 1 else 0):
        if height <= bound:
            break
        trial = _swapped(best, draw)
        tried = _height(trial, _place(trial, overlaps))
        if tried <= height:
            best, height = trial, tried
    return _place(best, overlaps)


def _swapped(order: Sequence[Buffer], draw: random.Random) -> list[Buffer]:
    trial = list(order)
    for _ in range(draw.choice((1, 1, 2, 3))):
        i, j = draw.sample(range(len(trial)), 2)
        trial.insert(j, trial.pop(i))
    return trial


def check(graph: Graph, layers: Sequence[Layer], plan: MemoryPlan) -> None:
    """Raise ValueError if two buffers of a plan touch that must not (used by the exporter before it writes)."""
    roots = _roots(graph)
    by_name = {b.name: b for b in plan.buffers}
    overlaps = _overlaps(graph, layers, roots, by_name)
    for a, b in itertools.combinations(plan.buffers, 2):
        if not _compatible(a, plan.offsets[a.name], b, plan.offsets[b.name], overlaps):
            raise ValueError(f"{a.name} and {b.name} share memory while both are needed")
