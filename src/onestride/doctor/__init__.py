"""Compares a log of a robot's observations with what a policy learnt from, before anything moves."""
