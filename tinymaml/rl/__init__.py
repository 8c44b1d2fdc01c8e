"""Meta reinforcement learning: tasks whose data the adapting policy collects itself."""
