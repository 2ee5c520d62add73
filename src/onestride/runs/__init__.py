"""A run's folder: its stages, presets, imported data and teacher-target pairs."""
