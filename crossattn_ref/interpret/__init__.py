"""What attention weights say, and how far that can be believed: links between words, and words that point at regions.

Its names are part of the course's promises, and so are offered here, as those of the checks are.
"""

from crossattn_ref.interpret.alignment import (
    IBMModel1,
    alignment_error_rate,
    alignment_precision,
    alignment_recall,
    attention_links,
    diagonal_links,
    ibm_model_1,
    links_by_class,
    oracle_links,
)
from crossattn_ref.interpret.deletion import area_under, delete_patches, deletion_curve
from crossattn_ref.interpret.grounding import attention_iou, attention_mass, pointing_game, regions_of

__all__ = [
    "IBMModel1",
    "alignment_error_rate",
    "alignment_precision",
    "alignment_recall",
    "area_under",
    "attention_iou",
    "attention_links",
    "attention_mass",
    "delete_patches",
    "deletion_curve",
    "diagonal_links",
    "ibm_model_1",
    "links_by_class",
    "oracle_links",
    "pointing_game",
    "regions_of",
]
