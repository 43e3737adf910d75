"""The demo: simulated venues, two notaries, a settled trade, and what was proven."""
