"""The graph of a model: tracing, data flow, rewriting a container, weights read around."""
