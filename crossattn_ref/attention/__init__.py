"""One function, attention(q, k, v, mask), computed in several ways."""
