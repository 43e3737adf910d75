"""The transparency log's formats, proofs and rules (docs/log.md); C2SP's, as pure values.

Bytes: ``note`` (signed notes), ``checkpoint``, ``cosignature``, ``tiles``, ``bundle``,
``proof``, ``witness`` (add-checkpoint), ``policy`` (which witnesses suffice).  Trees:
``tree``, and ``tileproof`` for proofs from tiles.  What is logged: ``entry``.
What may follow what: ``rules``, over ``feeds`` and ``sessions``.
"""
