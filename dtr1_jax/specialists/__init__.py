"""Specialists: models that can fill a part of a twin (detect, segment, depth, track)."""
