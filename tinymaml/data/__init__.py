"""Sources of tasks: sine curves, glyphs drawn here, and prepared image files."""
