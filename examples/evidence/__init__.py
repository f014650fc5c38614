"""The experiments that the mechanisms must stand up to: `python -m examples.evidence --list`."""
