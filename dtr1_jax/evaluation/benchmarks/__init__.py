"""Figures as the benchmarks' own code computes them."""
