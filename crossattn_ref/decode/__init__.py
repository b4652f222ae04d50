"""Writing a sentence token by token: greedily, with a beam, or by drawing; on any model that takes one step."""
