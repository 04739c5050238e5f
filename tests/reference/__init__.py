"""Naive float64 versions of what the library computes."""
