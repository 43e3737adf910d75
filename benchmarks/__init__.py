"""Ratios against a plain fetch and the physical floor, measured in one run."""
