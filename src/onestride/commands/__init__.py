"""What the program can be told, one dataclass per command: its fields are its options, calling it does it."""
