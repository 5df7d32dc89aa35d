"""Three kinds of plot as inline SVG: a line over steps, lines in the unit square, and bars with a mark for chance.

Widths are in pixels; colours come from the style sheet. A plot fits the width of a phone, so that text is never scaled
down. The width reserved for labels is computed from their text, and labels that would overlap are moved.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from codi_jax.report.markup import Html, el, join, number

Point = tuple[float, float]


def text_at(x: float, y: float, words: str, class_: str = "label", anchor: str = "start") -> Html:
    """Words at a point; the class is one of the style sheet, the anchor start, middle or end."""
    place = f'x="{x:.1f}" y="{y:.1f}" class="{class_}" text-anchor="{anchor}"'
    return Html(f"<text {place}>{join([words])}</text>")


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return el("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def _label_width(names: Iterable[str]) -> int:
    """Width in pixels of the longest label next to a plot, with padding."""
    return 16 + 8 * max(map(len, names), default=0)


def spread(places: Sequence[float], gap: float, high: float) -> list[float]:
    """Moves coordinates, keeping their order, so that neighbours differ by at least `gap` and none exceeds `high`."""
    moved = list(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    for before, i in pairwise(order):
        moved[i] = max(moved[i], moved[before] + gap)
    for k, i in enumerate(reversed(order)):
        moved[i] = min(moved[i], high - k * gap)
    return moved


def ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About `count` round numbers within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """At most about eight powers of ten in [10**low, 10**high]; if there are few, also their multiples by 2 and 5."""
    factors = (1, 2, 5) if high - low < 2.2 else (1,)
    powers = range(math.floor(low), math.floor(high) + 1, max(round((high - low) / 8), 1))
    return [m * 10.0**k for k in powers for m in factors if low <= math.log10(m) + k <= high]


def smooth(points: Sequence[Point], radius: int) -> list[Point]:
    """A centred running mean over up to `radius` points on each side, the same number on both."""
    out = []
    for i, (x, _) in enumerate(points):
        width = min(radius, i, len(points) - 1 - i)
        window = [y for _, y in points[i - width : i + width + 1]]
        out.append((x, sum(window) / len(window)))
    return out


def thinned(points: Sequence[Point], most: int = 500) -> list[Point]:
    """At most about `most` of the points, the last one among them; a plot has no more pixels."""
    stride = -(-len(points) // most)
    return [*points[:-1:stride], *points[-1:]]


def curve(points: Sequence[Point], title: str, width: int = 330, height: int = 190) -> Html:
    """A quantity over steps: thin points, thick running mean; the axis is logarithmic if values span a factor of ten.

    Args:
      points: (step, value) in order, at least one; values are finite.
      title: title for screen readers.
      width, height: size in pixels.
    """
    right, top, bottom = 24, 10, 26
    values = [y for _, y in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > 10
    scale = math.log10 if logarithmic else float
    a, b = scale(low), scale(high)
    pad = (b - a) * 0.06 or 0.5
    a, b = a - pad, b + pad
    end = max(points[-1][0], 1)
    marks = decades(a, b) if logarithmic else ticks(a, b, 4)
    left = 14 + 7 * max((len(f"{mark:g}") for mark in marks), default=0)

    def place(point: Point) -> Point:
        x, y = point
        return left + (width - left - right) * x / end, top + (height - top - bottom) * (b - scale(y)) / (b - a)

    def path(points: Sequence[Point], class_: str) -> Html:
        return el("path", d="M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points)), class_=class_)

    parts = []
    for mark in marks:
        y = place((0, mark))[1]
        parts += [_line(left, y, width - right, y, "grid"), text_at(left - 7, y + 3.5, f"{mark:g}", "tick", "end")]
    for mark in ticks(0, end, 4):
        x = place((mark, values[0]))[0]
        parts.append(text_at(x, height - 8, f"{mark:g}", "tick", "middle"))
    mean = smooth(points, max(len(points) // 20, 1))
    parts += [path(thinned(points), "raw"), path(thinned(mean), "mean")]
    return drawing(parts, title, width, height)


def unit_curves(
    series: Sequence[tuple[str, Sequence[Point], str]], title: str, width: int = 330, height: int = 200
) -> Html:
    """Lines in the unit square, each with its name at its end.

    Args:
      series: (name, [(x, y), …] within [0, 1], class).
      title: title for screen readers.
      width, height: size in pixels.
    """
    left, right, top, bottom = 34, _label_width(name for name, _, _ in series), 10, 26

    def place(point: Point) -> Point:
        return left + (width - left - right) * point[0], top + (height - top - bottom) * (1 - point[1])

    parts: list[Html] = []
    for mark in (0, 0.5, 1):
        (x, y), (_, base) = place((mark, mark)), place((0, 0))
        parts += [_line(left, y, width - right, y, "grid"), text_at(left - 7, y + 3.5, f"{mark:g}", "tick", "end")]
        parts.append(text_at(x, base + 16, f"{mark:g}", "tick", "middle"))
    ends: list[Point] = []
    for _, points, class_ in series:
        placed = [place(point) for point in points]
        parts.append(el("path", d="M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in placed), class_=f"line {class_}"))
        ends.append(placed[-1])
    for (x, _), y, (name, _, _) in zip(ends, spread([y for _, y in ends], 15, height - bottom), series, strict=True):
        parts.append(text_at(x + 6, y + 4, name))
    return drawing(parts, title, width, height)


def bars(groups: Sequence[tuple[str, Sequence[tuple[str, float, str]], float]], title: str, width: int = 330) -> Html:
    """Groups of horizontal bars from 0 to 1, each with its name above and a mark at chance.

    Args:
      groups: (name, [(label, value, class), …], chance).
      title: title for screen readers.
      width: width in pixels; the height follows from the number of bars.
    """
    right, bar, head, gap, top = 42, 20, 20, 12, 20
    left = _label_width(label for _, items, _ in groups for label, _, _ in items)
    span = width - left - right
    parts, y = [], float(top)
    height = top + sum(head + len(items) * bar + gap for _, items, _ in groups)
    for mark in (0, 0.5, 1):
        parts.append(text_at(left + span * mark, 11, f"{mark:g}", "tick", "middle"))
    for name, items, chance in groups:
        parts += [text_at(0, y + 14, name, "name"), text_at(width, y + 14, f"chance {chance:.2f}", "label", "end")]
        y += head
        start, x = y, left + span * chance
        grid = (left + span * mark for mark in (0, 0.5, 1))
        parts += [_line(line, y, line, y + len(items) * bar, "grid") for line in grid]
        for label, value, class_ in items:
            size = max(span * value, 1)
            parts += [
                text_at(left - 8, y + 14, label, "label", "end"),
                el("rect", x=left, y=f"{y + 2:.1f}", width=f"{size:.1f}", height=bar - 5, rx=2, class_=f"bar {class_}"),
            ]
            # If the bar ends just before the mark, the value is right of the mark, so that they do not overlap.
            end = max(left + size, x) if x - 44 < left + size else left + size
            parts.append(text_at(end + 6, y + 14, number(value, 2), "value"))
            y += bar
        parts.append(_line(x, start, x, y, "chance"))
        y += gap
    return drawing(parts, title, width, height)


def drawing(parts: Sequence[Html], title: str, width: float, height: float) -> Html:
    """An image of these parts, with a title for screen readers and a size in pixels."""
    return el("svg", el("title", title), parts, viewBox=f"0 0 {width} {height}", width=width, height=height, role="img")


# Of files, which no style sheet of a page reaches; white, since pages may be dark.
_FILE_STYLE = (
    "svg{background:#fff}text{font:12px sans-serif}.tick{font-size:11px}.name{font-weight:bold}"
    ".light{fill:#fff}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}"
)


def as_file(svg: Html, style: str) -> str:
    """The content of an .svg file, with the colours of its classes in `style`."""
    opened = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return opened.replace("</title>", f"</title><style>{_FILE_STYLE}{style}</style>", 1) + "\n"
