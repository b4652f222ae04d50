"""Maps of weights, and small matrices: a row for each query, a column for each key."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from crossattn_ref.plot import paper
from crossattn_ref.plot.style import FONT, LETTER, picture, style
from crossattn_ref.svg import COLOUR, WIDTH, Picture

_SMALLEST_CELL, _CELL_WITH_NUMBER, _LARGEST_CELL, _CELL_OF_A_PANEL = 11, 27, 40, 31
_PANEL_STRENGTH = 0.45  # the fullest cell of a query, key or value panel: ink stays readable on it


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
    queries, keys = paper.labels("queries", queries, weights.shape[0]), paper.labels("keys", keys, weights.shape[1])
    seen = _boolean("mask", np.ones(weights.shape, bool) if mask is None else mask, weights.shape)
    left = 30 + LETTER * max(map(len, queries))
    cell = min(max((WIDTH - left - 44) / len(keys), _SMALLEST_CELL), _LARGEST_CELL)
    with style():
        sheet = paper.sheet(len(keys) * cell, len(queries) * cell)
        for (row, column), weight in np.ndenumerate(weights):
            corner = (column * cell, row * cell)
            if seen[row, column]:
                paper.cell(sheet, corner, cell, "weights", weight, f"{weight:.2f}" if cell >= _CELL_WITH_NUMBER else "")
            else:
                paper.box(sheet, corner, cell, cell, edgecolor=COLOUR["masked"], hatch="////")
        for row, column in _pairs(gold, weights.shape):
            paper.outline(sheet, (column * cell, row * cell), cell, cell)
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
        [(max(array.shape[1] * cell, LETTER * len(name)), len(array) * cell) for name, array, _ in panels]
    )
    with style():
        sheet = paper.sheet(*size)
        for corner, (name, array, role) in zip(corners, panels, strict=True):
            _panel(sheet, corner, cell, name, array, role)
        return picture(sheet.figure, title=title, alt=alt)


def _name_sides(sheet, queries, keys, cell):
    """Write a name at each row and column, and mark the side of the queries blue and that of the keys orange."""
    height, width = len(queries) * cell, len(keys) * cell
    sheet.plot([-4, -4], [0, height], color=COLOUR["query"], linewidth=3, solid_capstyle="butt", clip_on=False)
    sheet.plot([0, width], [-4, -4], color=COLOUR["key"], linewidth=3, solid_capstyle="butt", clip_on=False)
    size, longest = min(FONT, cell * 0.95), max(map(len, keys))
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
        paper.box(sheet, (x, height - (place + 1) * step), 8, step, facecolor=(COLOUR["weights"], (place + 0.5) / 10))
    for text, y in (("1", 0), ("0", height)):
        sheet.text(x + 12, y, text, va="center_baseline")
    sheet.text(x + 12, height / 2, "weight", rotation=90, va="center")


def _flow(sizes):
    """Place boxes (width, height) in lines like words, with room for a name above and a shape below each."""
    corners, x, y, right, bottom = [], 0.0, 1.6 * FONT, 0.0, 0.0
    for width, height in sizes:
        if x > 0 and x + width > WIDTH:
            x, y = 0.0, bottom + 2.4 * FONT
        corners.append((x, y))
        right, bottom = max(right, x + width), max(bottom, y + height + 1.8 * FONT)
        x += width + 2 * FONT
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
        paper.cell(sheet, place, cell, role, strengths[row, column], text, letters)
    rows, columns = array.shape
    sheet.text(x, y + rows * cell + 5, f"{rows} \N{MULTIPLICATION SIGN} {columns}", va="top")


def _signs(array):
    return ["\N{MINUS SIGN}" if number < 0 else "" for number in array.flat]


def _numbers(array):
    """Write whole numbers as they are, others with two decimals, or with one where they reach ten."""
    decimals = 0 if np.all(array == array.round()) else 1 if np.abs(array).max() >= 10 else 2
    return [f"{number:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for number in array.flat]


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
