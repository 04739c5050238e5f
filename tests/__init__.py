"""Tests of hsplit_flower, path for path, and of what surrounds it."""
