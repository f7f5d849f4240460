"""Depth Anything 3, the model for single pictures (DA3MONO-LARGE; arXiv 2511.10647): depth without a unit, far = large.

The architecture is that of Depth Anything V2 with another output and a second output for the sky. The models for
several views (DA3-SMALL to DA3NESTED) have a camera, rays and attention between views, and are not supported.
"""
