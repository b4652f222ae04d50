"""What models learn from: generators with gold alignments, loaders of real corpora, and their words as numbers."""
