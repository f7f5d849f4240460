"""Held-out scores: predictions, what each adds to the figures, and the table."""
