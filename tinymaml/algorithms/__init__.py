"""The algorithms: one file and one row each."""
