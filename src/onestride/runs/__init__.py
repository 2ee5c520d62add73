"""A run: its folder, its stages and its presets."""
