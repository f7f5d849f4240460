"""Log-probabilities become better parameters."""
