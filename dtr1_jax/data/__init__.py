"""Pictures and queries become fixed-size arrays."""
