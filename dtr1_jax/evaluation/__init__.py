"""Evaluation on held-out queries: predictions, the numbers of each query, metrics, and the table."""
