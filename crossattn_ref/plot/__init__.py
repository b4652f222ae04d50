"""Figures for the page: inline SVG that takes its text colour and its hues from the reader's theme.

One code of colours: queries blue and always rows, keys orange and always columns, values green,
weights one violet from nothing (0) to full (1), masked places hatched grey, gold alignments outlined.
Every drawing function wants a `title` (the takeaway) and an `alt` (what one sees and what it means).
What draws is offered here, so that a chapter needs one import.

Letters: Nq queries, Nk keys. Lengths on paper are in points; a figure is at most 360 points (480 pixels) wide
unless it has too many columns for that.
"""

from crossattn_ref.plot.charts import bars, curves
from crossattn_ref.plot.maps import matrices, weights
from crossattn_ref.plot.raster import looks, pictures
from crossattn_ref.plot.style import picture, style
from crossattn_ref.svg import COLOUR, WIDTH

__all__ = ["COLOUR", "WIDTH", "bars", "curves", "looks", "matrices", "picture", "pictures", "style", "weights"]
