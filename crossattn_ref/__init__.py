"""Reference package of the course on cross-attention."""
