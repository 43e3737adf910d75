"""The notary's transparency log: one sequencer, its tables, what it publishes (docs/log.md)."""
