"""Where models come from: one file for each kind of architecture that a manifest can name."""
