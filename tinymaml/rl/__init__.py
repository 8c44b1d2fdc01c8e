"""Meta reinforcement learning: the adapting policy collects the data of its tasks."""
