"""Twins and answers become numbers."""
