"""TwinWorld: procedural scenes with exact annotations and implicit queries."""
