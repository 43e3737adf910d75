"""Examples: simulated venues and short scripts that use the three packages."""
