"""The attribute words of generated scenes, and their places in `types.Instance.attributes`."""

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = ("small", "large")
MATERIALS = ("metal", "wood", "cloth", "plastic")

COLOUR, SIZE, MATERIAL = range(3)  # places in Instance.attributes
VALUES = (COLOURS, SIZES, MATERIALS)  # the words that may stand at each place
COUNTABLE = {"colour": COLOUR, "material": MATERIAL}  # attributes by whose values a query can count objects
