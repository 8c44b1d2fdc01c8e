"""Complete files to begin with; `tinymaml new FILE.py` copies the first, cooling.py."""
