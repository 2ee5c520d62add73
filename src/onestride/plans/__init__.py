"""Plans: their shape, and which of their entries are known."""
