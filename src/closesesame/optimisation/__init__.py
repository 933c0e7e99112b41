"""Looking for an input, or for examples, rather than for weights."""
