"""Charts: lines over x, and bars, over seeds where there are seeds."""

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from crossattn_ref.plot.style import FONT, LETTER, picture, style
from crossattn_ref.svg import COLOUR, WIDTH, Picture

_STYLES = {
    "ours": {"linewidth": 2.2, "linestyle": "-"},
    "other": {"linewidth": 1.2, "linestyle": "-"},
    "limit": {"linewidth": 1.6, "linestyle": (0, (4, 2.5))},
}
_MARKERS = "osD^vPX*"


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
        letters = max(int(0.8 * WIDTH / len(values) / LETTER), 4)
        names = ["\n".join(textwrap.wrap(label, letters)) for label in values]
        axes.set(xlabel=xlabel, ylabel=ylabel, xticks=range(len(values)), xticklabels=names)
        axes.tick_params(axis="x", length=0)
        return picture(axes.figure, title=title, alt=alt)


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
        half = n_lines * FONT * 0.65
        middle = max(heights[place], floor + half)
        name.set_position((7, middle - heights[place]))
        floor = middle + half
