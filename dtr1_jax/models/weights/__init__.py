"""Weights on disk: our own files, Hugging Face folders and GGUF files. Reading refuses any tensor that does not fit."""
