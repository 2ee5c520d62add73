"""Episodes, the readers of datasets, and collecting."""
