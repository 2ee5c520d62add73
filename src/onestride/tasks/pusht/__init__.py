"""PushT: a round agent pushes a T-shaped block to a goal pose in the plane."""
