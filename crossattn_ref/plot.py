"""Figures for the page: inline SVG that takes its text colour and its hues from the reader's theme.

One code of colours: queries blue and always rows, keys orange and always columns, values green,
weights one violet from nothing (0) to full (1), masked places hatched grey, gold alignments outlined.
Every drawing function wants a `title` (the takeaway) and an `alt` (what one sees and what it means).

Letters: Nq queries, Nk keys. Lengths on paper are in points; a figure is at most 360 points (480 pixels) wide
unless it has too many columns for that.
"""

import contextlib
import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from crossattn_ref.svg import COLOUR, TEXT_COLOUR, WIDTH, Picture, for_the_page

_FONT = 11
_SMALLEST_CELL, _CELL_WITH_NUMBER, _LARGEST_CELL, _CELL_OF_A_PANEL = 11, 27, 40, 31
_LETTER = 0.6 * _FONT  # the width of an average letter
_PAPER_FROM = 0.65  # weights above this carry their number in paper, below in ink: at least 4.5 to 1 in both themes
_PANEL_STRENGTH = 0.45  # the fullest cell of a query, key or value panel: ink stays readable on it
_STYLES = {
    "ours": {"linewidth": 2.2, "linestyle": "-"},
    "other": {"linewidth": 1.2, "linestyle": "-"},
    "limit": {"linewidth": 1.6, "linestyle": (0, (4, 2.5))},
}
_MARKERS = "osD^vPX*"
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossattn",
    "figure.facecolor": "none",
    "figure.figsize": (WIDTH / 72, 3.0),
    "figure.constrained_layout.use": True,
    "axes.facecolor": "none",
    "axes.edgecolor": TEXT_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.prop_cycle": matplotlib.cycler(color=[COLOUR[role] for role in ("ours", "query", "key", "value", "other")]),
    "font.size": _FONT,
    "axes.labelsize": _FONT,
    "xtick.labelsize": _FONT - 0.5,
    "ytick.labelsize": _FONT - 0.5,
    "text.color": TEXT_COLOUR,
    "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "hatch.linewidth": 0.9,
    "legend.frameon": False,
}


def weights(
    weights: np.ndarray,
    *,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    gold: np.ndarray | Iterable[tuple[int, int]] | None = None,
    mask: np.ndarray | None = None,
    title: str,
    alt: str,
) -> Picture:
    """Draw attention weights as a map: a row for each query, a column for each key, numbers where there is room.

    weights (Nq, Nk) in [0, 1]; mask bool (Nq, Nk), True = may look, the rest is hatched;
    gold, which is outlined, is either bool (Nq, Nk) or pairs (query, key).
    Raises ValueError for other shapes or values, for labels that do not fit, and for a missing title or alt.
    """
    weights = _matrix("weights", weights)
    if weights.min() < 0 or weights.max() > 1 + 1e-6:
        raise ValueError(f"weights must lie in [0, 1], got {weights.min()} to {weights.max()}")
    queries, keys = _labels("queries", queries, weights.shape[0]), _labels("keys", keys, weights.shape[1])
    seen = _boolean("mask", np.ones(weights.shape, bool) if mask is None else mask, weights.shape)
    left = 30 + _LETTER * max(map(len, queries))
    cell = min(max((WIDTH - left - 44) / len(keys), _SMALLEST_CELL), _LARGEST_CELL)
    with style():
        sheet = _sheet(len(keys) * cell, len(queries) * cell)
        for (row, column), weight in np.ndenumerate(weights):
            corner = (column * cell, row * cell)
            if seen[row, column]:
                _cell(sheet, corner, cell, "weights", weight, f"{weight:.2f}" if cell >= _CELL_WITH_NUMBER else "")
            else:
                _box(sheet, corner, cell, cell, edgecolor=COLOUR["masked"], hatch="////")
        for row, column in _pairs(gold, weights.shape):
            _outline(sheet, (column * cell, row * cell), cell)
        _name_sides(sheet, queries, keys, cell)
        _weight_bar(sheet, len(keys) * cell + 14, min(len(queries) * cell, 110))
        return picture(sheet.figure, title=title, alt=alt)


def matrices(panels: Sequence[Mapping], *, title: str, alt: str) -> Picture:
    """Draw small matrices side by side, each with its name above and its shape below.

    A panel is {"name": text, "array": (rows, columns), "role": "query" | "key" | "value" | "weights" | "plain"}.
    The fuller the colour, the larger the number (by size, within its matrix; weights from 0 to 1);
    a minus sign marks what is negative where there is no room for numbers.
    Raises ValueError for arrays without two axes, unknown roles, and a missing title or alt.
    """
    panels = [(panel["name"], _matrix(panel["name"], panel["array"]), panel["role"]) for panel in panels]
    columns = max(array.shape[1] for _, array, _ in panels)
    cell = _CELL_OF_A_PANEL if columns <= 6 else max(min(14, WIDTH / columns), 5)
    corners, size = _flow(
        [(max(array.shape[1] * cell, _LETTER * len(name)), len(array) * cell) for name, array, _ in panels]
    )
    with style():
        sheet = _sheet(*size)
        for corner, (name, array, role) in zip(corners, panels, strict=True):
            _panel(sheet, corner, cell, name, array, role)
        return picture(sheet.figure, title=title, alt=alt)


def curves(
    x: np.ndarray,
    lines: Mapping[str, np.ndarray],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    alt: str,
    logx: bool = False,
    logy: bool = False,
    ylim: tuple[float, float] | None = None,
    styles: Mapping[str, str] | None = None,
) -> Picture:
    """Draw lines over x, each with its name at its end; over seeds, the median as line and the range as band.

    x (n,); lines {label: (n,) or (seeds, n)}; styles {label: "ours" (solid) | "other" (thin) | "limit" (dashed),
    or another role of COLOUR}. Without a style the first line is "ours", and all others are "other".
    Raises ValueError for lines that are not as long as x, unknown styles, and a missing title or alt.
    """
    x = np.asarray(x, dtype=float)
    styles = {label: "other" if place else "ours" for place, label in enumerate(lines)} | dict(styles or {})
    with style():
        figure = Figure()
        axes = figure.subplots()
        for place, (label, line) in enumerate(lines.items()):
            _line(axes, x, label, line, styles[label], _MARKERS[place % len(_MARKERS)])
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if logx else "linear", yscale="log" if logy else "linear")
        if ylim is not None:
            axes.set_ylim(ylim)
        if logx and x.size <= 8:  # the places that were measured, rather than powers of ten
            axes.set_xticks(x)
        for axis in [axes.xaxis] * logx + [axes.yaxis] * logy:
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_locator(NullLocator())
        _name_lines(axes, x, lines)
        return picture(figure, title=title, alt=alt)


def bars(values: Mapping[str, float | np.ndarray], *, xlabel: str, ylabel: str, title: str, alt: str) -> Picture:
    """Draw one bar for each label, its number on top; over seeds, the median as bar and each seed as a ring.

    values {label: number or (seeds,)}. Raises ValueError where there are no values, and for a missing title or alt.
    """
    if not values:
        raise ValueError("values must hold at least one bar, got none")
    with style():
        axes = Figure().subplots()
        for place, samples in enumerate(values.values()):
            middle, top, n_samples = np.median(samples), np.max(samples), np.size(samples)
            axes.bar(place, middle, width=0.6, color=COLOUR["ours" if place == 0 else "other"], alpha=0.75)
            if n_samples > 1:
                rings = {"color": COLOUR["paper"], "markeredgecolor": COLOUR["ink"], "markersize": 5}
                axes.plot(np.full(n_samples, place), samples, "o", clip_on=False, **rings)
            offset = (0, 3 if n_samples == 1 else 7)
            axes.annotate(f"{middle:,.4g}", (place, top), offset, textcoords="offset points", ha="center")
        letters = max(int(0.8 * WIDTH / len(values) / _LETTER), 4)
        names = ["\n".join(textwrap.wrap(label, letters)) for label in values]
        axes.set(xlabel=xlabel, ylabel=ylabel, xticks=range(len(values)), xticklabels=names)
        axes.tick_params(axis="x", length=0)
        return picture(axes.figure, title=title, alt=alt)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Give every matplotlib figure that is drawn inside the look of the course; end with picture()."""
    with matplotlib.rc_context(_RC):
        yield


def picture(figure: Figure, *, alt: str, title: str | None = None) -> Picture:
    """Turn a matplotlib figure that was drawn inside style() into a Picture. The same figure gives the same bytes.

    Without a title, the figure's own is taken (suptitle, else the title of its first axes): it moves into the caption.
    Raises ValueError for a missing title, and for an alt under 30 characters: it says what one sees and what it means.
    """
    own = [text for text in (figure._suptitle, *(axes.title for axes in figure.axes)) if text and text.get_text()]
    title = title or (own[0].get_text() if own else "")
    if not title:
        raise ValueError("title must say what the figure shows, got none")
    if not alt or len(alt.strip()) < 30:
        raise ValueError(f"alt must say what one sees and what it means, in 30 characters or more, got {alt!r}")
    if own and own[0].get_text() == title:
        own[0].set_visible(False)
    if not any(axes.get_subplotspec() for axes in figure.axes):
        figure.set_layout_engine("none")  # axes that were placed by hand stay where they are
    file = io.StringIO()
    with style():
        figure.savefig(file, format="svg", bbox_inches="tight", pad_inches=0.02, metadata={"Date": None})
    pyplot.close(figure)  # or a notebook shows it once more
    return Picture(title, alt, for_the_page(file.getvalue(), title=title, alt=alt))


def _sheet(width, height):
    """Make axes whose coordinates are points on paper, y downwards."""
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def _box(sheet, corner, width, height, **look):
    look = {"facecolor": "none", "edgecolor": (TEXT_COLOUR, 0.25), "linewidth": 0.5, "clip_on": False} | look
    sheet.add_patch(Rectangle(corner, width, height, **look))


def _cell(sheet, corner, size, role, strength, number="", letters=4):
    _box(sheet, corner, size, size, facecolor=(COLOUR[role], strength))
    if number:
        middle = (corner[0] + size / 2, corner[1] + size / 2)
        colour = COLOUR["paper" if strength >= _PAPER_FROM else "ink"]
        font = min(size / (0.55 * letters + 0.3), _FONT)
        sheet.text(*middle, number, color=colour, fontsize=font, ha="center", va="center_baseline")


def _outline(sheet, corner, size):
    for colour, width in ((COLOUR["paper"], 3.4), (COLOUR["gold"], 1.6)):
        _box(sheet, corner, size, size, edgecolor=colour, linewidth=width, zorder=3)


def _name_sides(sheet, queries, keys, cell):
    """Write a name at each row and column, and mark the side of the queries blue and that of the keys orange."""
    height, width = len(queries) * cell, len(keys) * cell
    sheet.plot([-4, -4], [0, height], color=COLOUR["query"], linewidth=3, solid_capstyle="butt", clip_on=False)
    sheet.plot([0, width], [-4, -4], color=COLOUR["key"], linewidth=3, solid_capstyle="butt", clip_on=False)
    size, longest = min(_FONT, cell * 0.95), max(map(len, keys))
    for row, name in enumerate(queries):
        sheet.text(-9, (row + 0.5) * cell, name, fontsize=size, ha="right", va="center_baseline")
    angle = 0 if longest * 0.6 * size <= cell else 45 if cell >= 1.45 * size else 90
    turned = {"rotation_mode": "anchor", "ha": "left"} if angle == 45 else {"ha": "center"}
    for column, name in enumerate(keys):
        place = (column + (0.4 if angle == 45 else 0.5)) * cell
        sheet.text(place, -9, name, fontsize=size, va="bottom", rotation=angle, **turned)
    rise = size * (1.3 + 0.6 * longest * math.sin(math.radians(angle)))
    sheet.text(-16 - 0.6 * size * max(map(len, queries)), height / 2, "queries", rotation=90, ha="right", va="center")
    sheet.text(width / 2, -14 - rise, "keys", ha="center", va="bottom")


def _weight_bar(sheet, x, height):
    step = height / 10
    for place in range(10):
        _box(sheet, (x, height - (place + 1) * step), 8, step, facecolor=(COLOUR["weights"], (place + 0.5) / 10))
    for text, y in (("1", 0), ("0", height)):
        sheet.text(x + 12, y, text, va="center_baseline")
    sheet.text(x + 12, height / 2, "weight", rotation=90, va="center")


def _flow(sizes):
    """Place boxes (width, height) in lines like words, with room for a name above and a shape below each."""
    corners, x, y, right, bottom = [], 0.0, 1.6 * _FONT, 0.0, 0.0
    for width, height in sizes:
        if x > 0 and x + width > WIDTH:
            x, y = 0.0, bottom + 2.4 * _FONT
        corners.append((x, y))
        right, bottom = max(right, x + width), max(bottom, y + height + 1.8 * _FONT)
        x += width + 2 * _FONT
    return corners, (right, bottom)


def _panel(sheet, corner, cell, name, array, role):
    role = "other" if role == "plain" else role
    if role not in COLOUR:
        raise ValueError(f"the role of {name} must be query, key, value, weights or plain, got {role!r}")
    largest = max(np.abs(array).max(), np.finfo(float).tiny)
    strengths = array.clip(0, 1) if role == "weights" else _PANEL_STRENGTH * np.abs(array) / largest
    texts = _signs(array) if cell < _CELL_OF_A_PANEL else _numbers(array)
    letters = max(map(len, texts))
    x, y = corner
    sheet.text(x, y - 5, name, va="bottom", fontweight="bold")
    for (row, column), text in zip(np.ndindex(array.shape), texts, strict=True):
        place = (x + column * cell, y + row * cell)
        _cell(sheet, place, cell, role, strengths[row, column], text, letters)
    rows, columns = array.shape
    sheet.text(x, y + rows * cell + 5, f"{rows} \N{MULTIPLICATION SIGN} {columns}", va="top")


def _signs(array):
    return ["\N{MINUS SIGN}" if number < 0 else "" for number in array.flat]


def _numbers(array):
    """Write whole numbers as they are, others with two decimals, or with one where they reach ten."""
    decimals = 0 if np.all(array == array.round()) else 1 if np.abs(array).max() >= 10 else 2
    return [f"{number:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for number in array.flat]


def _line(axes, x, label, line, kind, marker):
    line = np.asarray(line, dtype=float)
    if line.ndim not in (1, 2) or line.shape[-1:] != x.shape:
        raise ValueError(f"line {label!r} must have shape (n,) or (seeds, n) with n = {x.size}, got {line.shape}")
    if kind not in COLOUR:
        raise ValueError(f"the style of {label!r} must be one of {', '.join(COLOUR)}, got {kind!r}")
    look = {"marker": marker, "markersize": 4} if x.size <= 16 and kind != "limit" else {}
    look |= _STYLES.get(kind, _STYLES["ours"]) | {"color": COLOUR[kind]}
    if line.ndim == 2:
        axes.fill_between(x, line.min(axis=0), line.max(axis=0), color=COLOUR[kind], alpha=0.2, linewidth=0)
        line = np.median(line, axis=0)
    axes.plot(x, line, **look)


def _name_lines(axes, x, lines):
    """Write each line's name at its end, moved up or down where two would touch."""
    names = []
    for label, samples in lines.items():
        line = np.median(np.atleast_2d(samples), axis=0)
        last = np.flatnonzero(np.isfinite(line))[-1]
        text = "\n".join(textwrap.wrap(label, 17))
        point = (x[last], line[last])
        name = axes.annotate(text, point, (7, 0), textcoords="offset points", va="center", annotation_clip=False)
        names.append((name, point, text.count("\n") + 1))
    axes.figure.draw_without_rendering()  # lays the axes out, so that heights on paper are known
    heights = [axes.transData.transform(point)[1] * 72 / axes.figure.dpi for _, point, _ in names]
    floor = -np.inf
    for place in np.argsort(heights, kind="stable"):
        name, _, n_lines = names[place]
        half = n_lines * _FONT * 0.65
        middle = max(heights[place], floor + half)
        name.set_position((7, middle - heights[place]))
        floor = middle + half


def _matrix(name, array):
    array = np.asarray(array, dtype=float)
    if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a matrix of finite numbers, got shape {array.shape}")
    return array


def _boolean(name, array, shape):
    array = np.asarray(array)
    if array.dtype != bool or array.shape != shape:
        raise ValueError(f"{name} must be boolean of shape {shape}, got dtype {array.dtype} and shape {array.shape}")
    return array


def _pairs(gold, shape):
    if gold is None:
        return []
    if isinstance(gold, np.ndarray):
        return np.argwhere(_boolean("gold", gold, shape)).tolist()
    pairs = sorted(gold)
    if wrong := [pair for pair in pairs if not all(0 <= place < n for place, n in zip(pair, shape, strict=True))]:
        raise ValueError(f"gold must hold pairs (query, key) within {shape}, got {wrong[0]}")
    return pairs


def _labels(name, labels, n):
    labels = [str(label) for label in (range(n) if labels is None else labels)]
    if len(labels) != n:
        raise ValueError(f"{name} must hold one label for each of {n}, got {len(labels)}")
    return labels
