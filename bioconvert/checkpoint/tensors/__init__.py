"""Tensors as files have them: number formats, ties, bytes and what is put on record of them."""
