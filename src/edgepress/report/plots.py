"""Plots as inline SVG: no library, coloured by the page's style sheet, so that dark and light and print all work."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from edgepress.gate.verdict import Verdict
from edgepress.gate.wording import in_terms_of, interval_in_words, limit_in_words

WIDTH, HEIGHT = 360, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 26, 44
GAUGE_WIDTH = 200


class Point(NamedTuple):
    """A model in a plane of cost (x) and quality (y), with the ends of its intervals where they are known.

    Attributes:
        kind: style: "baseline", "step", "compressed" or "other".
    """

    label: str
    x: float
    y: float
    kind: str = "other"
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None


class _Axis(NamedTuple):
    """Maps values between low and high to pixels between start and end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def gauge(verdict: Verdict) -> Markup:
    """A verdict as a picture: the limit as a line, the interval as a bar, the value as a dot; "" if it is unknown."""
    if verdict.value is None:
        return Markup("")
    ends = [e for e in (verdict.value, verdict.low, verdict.high, verdict.limit) if e is not None]
    axis = _axis(min(ends), max(ends), 8, GAUGE_WIDTH - 8, padding=0.12)
    low, high = (axis(end if end is not None else verdict.value) for end in (verdict.low, verdict.high))
    limit, value, y = axis(verdict.limit), axis(verdict.value), 13
    left, right = (limit, GAUGE_WIDTH) if verdict.kind in ("min", "min_ratio") else (0, limit)
    spread, style = max(high - low, 1), verdict.outcome
    words = f"value {in_terms_of(verdict, verdict.value)}, interval {interval_in_words(verdict) or 'exact'}"
    parts = [
        f'<rect class="allowed" x="{left:.1f}" y="3" width="{right - left:.1f}" height="20"/>',
        f'<line class="limit" x1="{limit:.1f}" x2="{limit:.1f}" y1="1" y2="25"/>',
        f'<rect class="interval {style}" x="{low:.1f}" y="{y - 3}" width="{spread:.1f}" height="6"/>',
        f'<circle class="value {style}" cx="{value:.1f}" cy="{y}" r="5"/>',
    ]
    return _svg(parts, GAUGE_WIDTH, 26, f"{verdict.label}: {words}, limit {limit_in_words(verdict)}", "gauge")


def pareto(points: Sequence[Point], x_title: str, y_title: str, *, higher_is_better: bool = True) -> Markup:
    """Quality over cost on a log axis; the front of undominated models is drawn, baseline to compressed as a path."""
    xs = [x for p in points for x in (p.x, *(p.x_ends or ())) if x > 0]
    ys = [y for p in points for y in (p.y, *(p.y_ends or ()))]
    logs = _axis(math.log(min(xs)), math.log(max(xs)), LEFT, WIDTH - RIGHT, padding=0.1, least=0.3)
    up = _axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, padding=0.12, least=1e-3)
    parts = _grid(logs, up, x_title, y_title)
    path = [p for p in points if p.kind != "other"]
    parts.append(_polyline([(logs(math.log(p.x)), up(p.y)) for p in path], "path"))
    parts.append(_polyline(_stairs(front(points, higher_is_better=higher_is_better), logs, up), "front"))
    parts += [mark for point in points for mark in _marker(point, logs, up)]
    parts += _labels([(p.label, logs(math.log(p.x)), up(p.y)) for p in points])
    listed = "; ".join(f"{p.label}: {p.x:.4g}, {p.y:.4g}" for p in points)
    return _svg(parts, WIDTH, HEIGHT, f"{y_title} over {x_title}. {listed}", "plot")


def front(points: Sequence[Point], *, higher_is_better: bool = True) -> list[Point]:
    """Points that no other beats on both axes, by rising cost."""
    sign = 1 if higher_is_better else -1
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -sign * p.y)):
        level = bool(best) and (point.x, point.y) == (best[-1].x, best[-1].y)
        if not best or level or sign * point.y > sign * best[-1].y:
            best.append(point)
    return best


def _stairs(points: Sequence[Point], logs: _Axis, up: _Axis) -> list[tuple[float, float]]:
    corners: list[tuple[float, float]] = []
    for point in points:
        x, y = logs(math.log(point.x)), up(point.y)
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return corners


def _axis(low: float, high: float, start: float, end: float, *, padding: float, least: float = 0.0) -> _Axis:
    span = max(high - low, least, 1e-12 * max(abs(low), abs(high), 1e-300)) or 1.0
    middle = (low + high) / 2
    half = span * (0.5 + padding)
    return _Axis(middle - half, middle + half, start, end)


def _grid(logs: _Axis, up: _Axis, x_title: str, y_title: str) -> list[str]:
    parts = [f'<text class="title" x="{LEFT}" y="{HEIGHT - 6}">{escape(x_title)} →</text>']
    parts.append(f'<text class="title" x="4" y="{TOP - 14}">↑ {escape(y_title)}</text>')
    for value in _round_values(up.low, up.high):
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{_tick(value, up)}</text>')
    for value in _round_logs(math.exp(logs.low), math.exp(logs.high)):
        x = logs(math.log(value))
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        text = _short(value)
        parts.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}">{text}</text>')
    return parts


def _tick(value: float, axis: _Axis) -> str:
    """A tick of the quality axis; a metric that stays within 0 and 1 is read more easily in per cent."""
    return f"{100 * value:.4g} %" if -0.2 <= axis.low < axis.high <= 1.2 else f"{value:.4g}"


def _round_values(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers in [low, high], about `about` of them."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step) + 1)]


def _round_logs(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten in [low, high]; finer where these are fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(values) > 6:
        values = [value for value in values if f"{value:e}"[0] == "1"]
    return values if len(values) > 1 else _round_values(low, high, about=3)


def _short(value: float) -> str:
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def _marker(point: Point, logs: _Axis, up: _Axis) -> list[str]:
    x, y = logs(math.log(point.x)), up(point.y)
    parts = []
    if point.x_ends and min(point.x_ends) > 0:
        left, right = (logs(math.log(end)) for end in point.x_ends)
        parts.append(f'<line class="error" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    if point.y_ends:
        bottom, top = (up(end) for end in point.y_ends)
        parts.append(f'<line class="error" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>')
    return [*parts, f'<circle class="point {escape(point.kind)}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>']


def _labels(marks: Sequence[tuple[str, float, float]]) -> list[str]:
    """A name beside each mark, above or below it, where it hits no name and no mark that is already there."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for _, x, y in marks]
    parts = []
    for text, x, y in marks:
        width = 7.3 * len(text)
        left = min(max(x - width / 2, LEFT + 2), WIDTH - width - 2)
        spots = [(left, y + shift, left + width, y + shift + 13) for shift in (-21, 8, -35, 22, -49, 36, -63, 50)]
        box = next((spot for spot in spots if not any(_hit(spot, other) for other in taken)), spots[0])
        taken.append(box)
        parts.append(f'<text class="label" x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{escape(text)}</text>')
    return parts


def _hit(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _polyline(corners: Sequence[tuple[float, float]], style: str) -> str:
    if len(corners) < 2:
        return ""
    return f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'


def _svg(parts: Sequence[str], width: int, height: int, description: str, style: str) -> Markup:
    """An image with a description for those who do not see it. All text in `parts` is escaped where it is made."""
    head = f'<svg class="{style}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
    return Markup(head + "".join(parts) + "</svg>")
