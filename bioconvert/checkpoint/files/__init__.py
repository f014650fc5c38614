"""Files, byte by byte: their kinds, headers and bounds; nothing here needs torch."""
