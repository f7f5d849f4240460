"""The policy: a vision-language decoder as functions over dicts of weights."""
