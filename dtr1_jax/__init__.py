"""DT-R1 in JAX: a vision-language policy builds a digital twin of a picture, reasons over it, and learns by GRPO."""

__version__ = "0.2.0"
