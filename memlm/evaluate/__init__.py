"""A model through lm-eval's tasks, with its memories, without, and with random vectors in their place."""
