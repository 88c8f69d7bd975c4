"""A picture of the memory plan: every buffer's life from left to right, its place in the arena from bottom to top."""

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 360, 70, 40, 30
FILL = {"input": "#7a9e7e", "activation": "#5b8db8", "output": "#c58b4e", "scratch": "#b0b0b0"}
TICKS = 4


def plan_svg(manifest: dict[str, Any]) -> str:
    """The plan of an artifact as SVG text, from its manifest: buffers, steps, arena and lower bound."""
    layers, arena = manifest["layers"], manifest["arena_bytes"]
    steps = len(layers) + 2  # before the first layer, and after the last
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" role="img" aria-label="memory plan of {escape(manifest["name"])}">',
        f'<text x="{LEFT}" y="18">{escape(manifest["name"])}: arena {arena:,} bytes, no placement below '
        f"{manifest['arena_lower_bound_bytes']:,}, without overlaps {manifest['arena_without_overlap_bytes']:,}</text>",
    ]
    parts += _axes(arena, steps, layers)
    parts += [_box(buffer, _kind(buffer, manifest), arena, steps) for buffer in manifest["buffers"]]
    return "\n".join([*parts, *_legend(), "</svg>", ""])


def _kind(buffer: dict[str, Any], manifest: dict[str, Any]) -> str:
    if buffer["name"].startswith("scratch:"):
        return "scratch"
    if buffer["first"] < 0:
        return "input"
    return "output" if buffer["last"] >= len(manifest["layers"]) else "activation"


def _x(step: float, steps: int) -> float:
    """Left edge of a step; steps count from -1."""
    return LEFT + (step + 1) * (WIDTH - LEFT - 10) / steps


def _y(address: float, arena: int) -> float:
    return HEIGHT - BOTTOM - address * (HEIGHT - BOTTOM - TOP) / max(arena, 1)


def _box(buffer: dict[str, Any], kind: str, arena: int, steps: int) -> str:
    x, y = _x(buffer["first"], steps), _y(buffer["offset"] + buffer["size"], arena)
    width = _x(buffer["last"] + 1, steps) - x
    height = _y(buffer["offset"], arena) - y
    label = f"{buffer['name']}: {buffer['size']:,} bytes at {buffer['offset']:,}"
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{FILL[kind]}" '
        f'fill-opacity="0.6" stroke="#333" stroke-width="0.6"><title>{escape(label)}</title></rect>'
    )


def _axes(arena: int, steps: int, layers: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for i in range(TICKS + 1):
        address = arena * i // TICKS
        y = _y(address, arena)
        lines.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - 10}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{address:,}</text>')
    for step, layer in enumerate(layers):
        x = (_x(step, steps) + _x(step + 1, steps)) / 2
        lines.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle" font-size="9">{step}'
            f"<title>{escape(layer['name'])}</title></text>"
        )
    return lines


def _legend() -> list[str]:
    drawn = []
    for i, (kind, colour) in enumerate(FILL.items()):
        x = LEFT + 90 * i
        drawn.append(f'<rect x="{x}" y="{HEIGHT - 16}" width="10" height="10" fill="{colour}"/>')
        drawn.append(f'<text x="{x + 14}" y="{HEIGHT - 7}">{kind}</text>')
    return [*drawn, f'<text x="{WIDTH - 10}" y="{HEIGHT - 7}" text-anchor="end">layers, in order of execution</text>']
