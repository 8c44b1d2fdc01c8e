"""What papers published: the settings they used and the figures they found."""
