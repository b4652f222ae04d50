"""The look that all figures share, and how one of them becomes a Picture for the page."""

import contextlib
import io
from collections.abc import Iterator

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure

from crossattn_ref.svg import COLOUR, TEXT_COLOUR, WIDTH, Picture, for_the_page

FONT = 11
LETTER = 0.6 * FONT  # the width of an average letter
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
    "font.size": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "text.color": TEXT_COLOUR,
    "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "hatch.linewidth": 0.9,
    "legend.frameon": False,
}


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
