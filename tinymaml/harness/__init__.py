"""A run: its files, its training loop, its evaluation."""
