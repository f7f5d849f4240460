"""Depth Anything V2 (arXiv 2406.09414): depth from one picture by DINOv2 and the dense head of DPT (arXiv 2103.13413).

`specialists.load("depth-anything/Depth-Anything-V2-Small-hf")` gives disparity without a unit; the metric checkpoints
give metres. Version 1 has the same architecture and loads as well. Depth Anything 3 is in `depth_anything_3/`.
"""
