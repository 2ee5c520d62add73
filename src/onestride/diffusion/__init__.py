"""Noise schedules and samplers: mathematics alone."""
