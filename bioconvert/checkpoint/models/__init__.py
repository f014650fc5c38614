"""Models into folders and out of them, in memory or tensor by tensor."""
