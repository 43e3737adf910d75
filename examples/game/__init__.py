"""A game of 30 seconds, up or down, on virtual tokens: what an operator would run."""
