"""Models built from attention: their blocks, and one module for each task."""
