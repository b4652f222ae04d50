"""Tasks: data, a model and training put together, from the corpus to what the course shows of it."""
