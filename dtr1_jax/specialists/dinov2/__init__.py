"""DINOv2 (arXiv 2304.07193): a vision transformer whose features serve other models, with and without registers.

It is the backbone of Depth Anything, and `specialists.load("facebook/dinov2-small")` gives its features alone.
"""
