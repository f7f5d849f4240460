"""Readers: files of others become examples."""
