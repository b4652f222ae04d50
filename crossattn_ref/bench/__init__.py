"""Suites of measurements: what is slow, what is large, what is right how often."""
