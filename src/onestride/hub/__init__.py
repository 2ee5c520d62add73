"""Folders that are shared by a model hub: what of a folder goes there, and what comes from there. No torch."""
