"""OGBench's scene: a UR5e before a drawer and a window, each with a button that locks it."""
