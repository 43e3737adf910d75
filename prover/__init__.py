"""The prover: fetches prices over TLS through notaries and keeps what proves them."""
