"""The check that a notebook calls: it prints a report and returns points."""

import functools
import importlib.metadata
import math
from collections.abc import Callable

from crossattn_ref.checks.table import examine


def check(name: str, answer: Callable, *, points: float = 1, release: str = "") -> float:
    """Examine an answer, print the report, and return the points earned, in [0, points].

    Whatever the answer does, no error leaves this function, and nothing is printed to stderr.
    release names the course release that the notebook belongs to; a different one installed is reported.
    """
    if isinstance(points, bool) or not isinstance(points, int | float) or not 0 <= points < math.inf:
        print(f"points must be a number from 0 up, got {points!r}")
        return 0.0
    try:
        report = examine(name, answer)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"check: {error}")
        return 0.0
    print(report.text(points))
    if advice := _advice(release):
        print(f"\n  {advice}")
    return points * report.score if report.score < 1 else float(points)


def for_release(release: str) -> Callable:
    """Return check for notebooks of one course release, such as "0.1.0"."""
    return functools.partial(check, release=release)


def _advice(release):
    """Say what to do where notebook and package are of different releases (major and minor number)."""
    try:
        installed = importlib.metadata.version("crossattn-ref")
    except importlib.metadata.PackageNotFoundError:  # a source tree on the path, without an installation
        return ""
    if not release or release.split(".")[:2] == installed.split(".")[:2]:
        return ""
    return (
        f"This notebook belongs to release {release} of the course, and crossattn_ref {installed} is installed. "
        f"Remedy: fetch the notebook of release {installed}, or install release {release} of the package."
    )
