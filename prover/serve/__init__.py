"""Serving a feed: HTTP API, event streams, metrics and a view for the terminal.

What is served comes from two places: the store, which has everything that lasts, and the
board, which has the newest slots in memory.  Needs the extra ``feed``; nothing else of the
prover imports it but the commands ``feed`` and ``serve``.
"""
