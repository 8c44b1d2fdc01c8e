"""What an evaluation found, as tables and JSON, and what runs are called in them."""
