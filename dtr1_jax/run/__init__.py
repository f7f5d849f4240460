"""What keeps a run alive: checkpoints, the run log, signals, files written whole, worker processes."""
