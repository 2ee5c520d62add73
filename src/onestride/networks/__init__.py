"""Networks, and the normaliser of their inputs and outputs."""
