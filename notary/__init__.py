"""The notary: the one who sees.  Owns keys, sockets and disk (docs/architecture.md)."""
