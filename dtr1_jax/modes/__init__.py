"""One thin file for each --mode of the command line."""
