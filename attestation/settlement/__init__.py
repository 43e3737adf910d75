"""The settlement rule: which outcome follows from attested slots (docs/settlement-policy.md)."""
