"""HalfCheetah, Walker2d and Hopper with one physical property changed, for planning with another body's data."""
