"""Checks of the exercises: what is right, what goes wrong, and how to say so."""

from crossattn_ref.checks.notebook import check, for_release
from crossattn_ref.checks.table import alternatives, examine, exercises, misconceptions, reference

__all__ = ["alternatives", "check", "examine", "exercises", "for_release", "misconceptions", "reference"]
