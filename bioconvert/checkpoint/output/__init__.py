"""Writing output folders: complete or not at all, and continued after an interruption."""
