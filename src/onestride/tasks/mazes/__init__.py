"""Point mazes and ant mazes: a body that has to reach a goal in a maze, often by one of several ways."""
