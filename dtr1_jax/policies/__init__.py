"""A policy made ready to run: its files, tokenizer, prompts, weights and training state."""
