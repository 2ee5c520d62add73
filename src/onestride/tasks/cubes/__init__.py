"""OGBench's UR5e, which picks up cubes, puts them down and stacks them: ``cube-single`` and ``cube-double``."""
