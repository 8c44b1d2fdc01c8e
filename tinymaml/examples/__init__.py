"""Complete files to begin with; `tinymaml new FILE.py` copies cooling.py."""
