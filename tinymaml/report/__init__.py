"""Evaluations as tables and JSON, and the names of runs in them."""
