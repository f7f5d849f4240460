"""Weights on disk: ours, those of Hugging Face and GGUF, read strictly, and written back."""
