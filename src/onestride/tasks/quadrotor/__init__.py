"""A small quadrotor in a room with pillars and boxes: its task, its simulation and the planner of its data."""
