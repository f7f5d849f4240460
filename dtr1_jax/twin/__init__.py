"""The language of the project: what a digital twin and an answer are, as values and as text."""
