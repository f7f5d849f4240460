"""Line charts of training curves as inline SVG. Their colours come from the page's style sheet (stylesheet.py)."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

WIDTH, HEIGHT = 440, 220  # of the view box; the page scales it
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 24  # room for the numbers at the axes
COLOURS = 6  # CSS classes c0 .. c5 in stylesheet.py

Point = tuple[float, float | None]


def chart(series: Mapping[str, Sequence[Point]], *, label: str, colours: Mapping[str, int] | None = None) -> str:
    """Draws one `<svg>` with a line for each series, and a legend if there are several.

    A point is (x, y); a y that is None, not finite or beyond 1e30 leaves a gap. A line of more than 40 points is drawn
    faint, with its moving average over it.

    Args:
      series: name -> points, x ascending.
      label: what the chart shows, for screen readers.
      colours: name -> number of its colour, taken modulo COLOURS; by default the first series has colour 0, and so on.
    """
    series = {
        name: [(x, y if y is not None and abs(y) <= 1e30 else None) for x, y in points]
        for name, points in series.items()
    }
    xs = [x for points in series.values() for x, y in points if y is not None]
    ys = [y for points in series.values() for _, y in points if y is not None]
    if not ys:
        return '<p class="none">nothing recorded</p>'
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    x0, x1 = min(min(xs), x_ticks[0]), max(max(xs), x_ticks[-1])
    y0, y1 = min(min(ys), y_ticks[0]), max(max(ys), y_ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x0) / (x1 - x0), (y - y0) / (y1 - y0)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">']
    for tick in y_ticks:
        y = place(x0, tick)[1]
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>'
        )
    for tick in x_ticks:
        x = place(tick, y0)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{tick:.6g}</text>')
    css = {name: f"c{(colours or {}).get(name, i) % COLOURS}" for i, name in enumerate(series)}
    for name, points in series.items():
        parts += _line(name, points, place, css[name])
    parts.append("</svg>")
    if len(series) > 1:
        keys = (f'<span><i class="{css[name]}"></i>{html.escape(name)}</span>' for name in series)
        parts.append(f'<p class="legend">{"".join(keys)}</p>')
    return "".join(parts)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers from `low` to `high`, 1, 2 or 5 times a power of ten apart.

    Where `low` equals `high`, there is a tick at either side of it: ticks(5, 5) == [4.5, 5.0, 5.5].
    """
    span = high - low
    if span <= max(1e-12, 1e-9 * max(abs(low), abs(high))):
        room = abs(low) / 10 if abs(low) > 1e-9 else 1.0
        return [low - room, low, low + room]
    raw = span / (count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= 0.8 * raw)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def smooth(values: Sequence[float], weight: float = 0.7) -> list[float]:
    """Exponential moving average that starts unbiased (Kingma and Ba, arXiv 1412.6980, section 3)."""
    means, mean = [], 0.0
    for n, value in enumerate(values, 1):
        mean = weight * mean + (1 - weight) * value
        means.append(mean / (1 - weight**n))
    return means


def _line(name: str, points: Sequence[Point], place: Callable, colour: str) -> list[str]:
    """A polyline for each stretch without a gap, and dots with a tooltip: at each point of a short line, else at its
    end."""
    parts = []
    dots = [(x, y) for x, y in points if y is not None]
    is_long = len(dots) > 40
    for stretch in _stretches(points):
        parts.append(_polyline([place(x, y) for x, y in stretch], f"{colour} faint" if is_long else colour))
    if is_long:
        means = smooth([y for _, y in dots])
        parts.append(_polyline([place(x, m) for (x, _), m in zip(dots, means)], colour))
        dots = [(dots[-1][0], means[-1])]
    for x, y in dots:
        cx, cy = place(x, y)
        tip = f"{html.escape(name)}: {y:.4g} at step {x:g}"
        parts.append(f'<circle class="{colour}" cx="{cx:.1f}" cy="{cy:.1f}" r="2.6"><title>{tip}</title></circle>')
    return parts


def _stretches(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """The points between gaps, without stretches of a single point."""
    stretches: list[list] = [[]]
    for x, y in points:
        if y is None:
            stretches.append([])
        else:
            stretches[-1].append((x, y))
    return [stretch for stretch in stretches if len(stretch) > 1]


def _polyline(places: Sequence[tuple[float, float]], css: str) -> str:
    return f'<polyline class="{css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
