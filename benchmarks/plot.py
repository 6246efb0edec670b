"""Draw curves as an SVG that can be read on light and dark pages. Knows nothing of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 460, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 92, 46, 52

STYLE = """
svg { color-scheme: light dark; }
.card { fill: #ffffff; }
text { fill: #24292f; font: 14px system-ui, sans-serif; }
.title { font-weight: 600; font-size: 15px; }
.grid { stroke: #d0d7de; }
.ideal { stroke: #8c959f; stroke-dasharray: 4 4; fill: none; }
.line { fill: none; stroke-width: 2.5; }
.c0 { stroke: #0969da; } .d0 { fill: #0969da; }
.c1 { stroke: #bc4c00; } .d1 { fill: #bc4c00; }
.c2 { stroke: #8250df; } .d2 { fill: #8250df; }
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; }
  text { fill: #e6edf3; }
  .grid { stroke: #30363d; }
  .c0 { stroke: #58a6ff; } .d0 { fill: #58a6ff; }
  .c1 { stroke: #f0883e; } .d1 { fill: #f0883e; }
  .c2 { stroke: #bc8cff; } .d2 { fill: #bc8cff; }
}
"""


@dataclass(frozen=True)
class Panel:
    """One diagram: curves by name, both axes logarithmic, and the curve that cannot be beaten."""

    title: str
    across: str
    upwards: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    ideal: Sequence[tuple[float, float]]


def svg(panel: Panel) -> str:
    """Return the diagram; its labels are legible at three quarters of its size, as on a phone."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'width="{WIDTH}" height="{HEIGHT}">',
        f"<title>{escape(panel.title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        *_panel(panel),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> list[str]:
    points = [point for curve in panel.curves.values() for point in curve] + list(panel.ideal)
    x = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, whole=False)
    y = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        _text(middle, 16, panel.title, "middle", "title"),
        _text(middle, HEIGHT - 12, panel.across, "middle"),
        _text(8, 36, panel.upwards, "start"),
    ]
    for tick in y.ticks():
        at = y.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{tick:,.0f}", "end"))
    for step in sorted({x for x, _ in points}):
        at = x.place(step)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(_text(at, HEIGHT - BOTTOM + 18, f"{step:,.0f}", "middle"))
    parts.append(f'<path class="ideal" d="{_path(panel.ideal, x, y)}"/>')
    ends = []
    for number, (name, curve) in enumerate(panel.curves.items()):
        parts.append(f'<path class="line c{number}" d="{_path(curve, x, y)}"/>')
        dots = (_dot(number, x.place(px), y.place(py)) for px, py in curve)
        parts += dots
        if curve:
            ends.append((y.place(curve[-1][1]), name, f"d{number}"))
    ends.append((y.place(panel.ideal[-1][1]), "possible", "label"))
    below = 0.0
    for at, name, kind in sorted(ends):  # names that would lie on each other move down
        below = max(at, below + 15)
        parts.append(_text(WIDTH - RIGHT + 8, below + 4, name, "start", kind))
    return parts


class _Axis:
    """Where a value lies between two edges, on a logarithmic scale."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, *, whole: bool = True
    ) -> None:
        low, high = log10(min(values)), log10(max(values))
        self._low: float = floor(low) if whole else low
        self._high: float = ceil(high) if whole else high
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        part = (log10(value) - self._low) / ((self._high - self._low) or 1)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(floor(self._low), ceil(self._high) + 1)]


def _path(curve: Sequence[tuple[float, float]], x: _Axis, y: _Axis) -> str:
    places = (f"{x.place(px):.1f} {y.place(py):.1f}" for px, py in curve)
    return "M" + "L".join(places) if curve else ""


def _dot(number: int, x: float, y: float) -> str:
    """Return a mark whose form tells the curves apart where colours do not."""
    if number == 0:
        return f'<circle class="d0" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if number == 1:
        return f'<rect class="d1" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    return f'<path class="d2" d="M{x:.1f} {y - 5.5:.1f}l5 9h-10z"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
