"""Paper: axes whose coordinates are points, and the cells, outlines and labels that lie on them."""

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from crossattn_ref.plot.style import FONT
from crossattn_ref.svg import COLOUR, TEXT_COLOUR

_PAPER_FROM = 0.65  # weights above this carry their number in paper, below in ink: at least 4.5 to 1 in both themes


def sheet(width, height):
    """Make axes whose coordinates are points on paper, y downwards."""
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def box(sheet, corner, width, height, **look):
    """Draw a box from its top left corner, with a faint edge and no filling unless told otherwise."""
    look = {"facecolor": "none", "edgecolor": (TEXT_COLOUR, 0.25), "linewidth": 0.5, "clip_on": False} | look
    sheet.add_patch(Rectangle(corner, width, height, **look))


def cell(sheet, corner, size, role, strength, number="", letters=4):
    """Draw a cell filled with the hue of a role, so strongly, and a number in it that can be read on that."""
    box(sheet, corner, size, size, facecolor=(COLOUR[role], strength))
    if number:
        middle = (corner[0] + size / 2, corner[1] + size / 2)
        colour = COLOUR["paper" if strength >= _PAPER_FROM else "ink"]
        font = min(size / (0.55 * letters + 0.3), FONT)
        sheet.text(*middle, number, color=colour, fontsize=font, ha="center", va="center_baseline")


def outline(sheet, corner, width, height):
    """Draw the mark of what is gold round a place: a thin line with paper on both sides."""
    for colour, thickness in ((COLOUR["paper"], 3.4), (COLOUR["gold"], 1.6)):
        box(sheet, corner, width, height, edgecolor=colour, linewidth=thickness, zorder=3)


def labels(name, labels, n):
    """Write labels as text, numbers from 0 where there are none; ValueError where there are not n."""
    labels = [str(label) for label in (range(n) if labels is None else labels)]
    if len(labels) != n:
        raise ValueError(f"{name} must hold one label for each of {n}, got {len(labels)}")
    return labels
