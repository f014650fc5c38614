"""Checkpoints of every format: what lies where, and its tensors by name."""
