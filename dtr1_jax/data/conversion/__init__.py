"""Data sets in the formats of other trainers and tools, rewritten as JSON lines."""
