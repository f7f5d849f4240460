"""The query language: queries about annotated pictures and videos, with their answers, for all generated data."""
