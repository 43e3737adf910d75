"""Sans-IO TLS 1.3 transcript verifier: raw records and an opening in, verified plaintext out.

Bytes flow through ``wire`` (records) into ``session`` (``TranscriptVerifier``),
which applies the checks W1-W7 of docs/witness.md with the messages of ``hello``
and ``handshake``, the keys of ``opening`` and ``schedule``, ``aead`` and
``certificates``.  Nothing here reads a clock, a socket or random bytes, so
whoever holds the raw records and the opening repeats the notary's work exactly.
"""
