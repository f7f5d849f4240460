"""The language of the project: digital twins and answers, as values and as text."""
