"""Published settings and published figures, each with its source."""
