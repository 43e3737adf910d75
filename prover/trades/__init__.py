"""Trades: taken at once, promised, logged in batches, and ended exactly once."""
