"""What an output folder says of itself, and the proof of it."""
