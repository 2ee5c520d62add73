"""Robots: their interface, clocks, limits and decisions. NumPy alone."""
