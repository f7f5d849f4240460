"""Readers: each turns files in one format into types.Example."""
