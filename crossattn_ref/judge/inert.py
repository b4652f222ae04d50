"""Calls that a notebook makes, and that say nothing."""


def check(name: str, answer: object, *, points: float = 1, release: str = "") -> float:  # noqa: ARG001 the real one's
    """Return 0.0."""
    return 0.0


def for_release(release: str) -> object:  # noqa: ARG001 the real one's signature
    """Return check."""
    return check
