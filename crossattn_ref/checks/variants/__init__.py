"""Mistakes that run, and right answers that compute differently, by subject."""
