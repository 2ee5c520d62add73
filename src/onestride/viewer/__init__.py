"""A running control loop, seen in a browser: it is told everything by shared memory, and never waits."""
