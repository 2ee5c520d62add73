"""The Kinova Gen3 arm: its task, its simulation and the planner of its data."""
