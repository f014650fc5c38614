"""What every other package rests on: errors, the registry, results, random streams. No layer."""
