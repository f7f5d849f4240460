"""Services that a long run needs: checkpoints, the run log, signals, files written whole, worker processes."""
