"""Annotations of photos, for tests of queries about photos."""

import numpy as np

from dtr1_jax.data.queries import photos
from dtr1_jax.types import Instance

NAMES = ("person", "dog", "cat", "car", "boat")


def thing(number, label, x, y, side=0.1):
    """An object with its centre at (x, y) of a 100 x 100 picture."""
    mask = np.zeros((100, 100), bool)
    mask[: round(100 * side), : round(100 * side)] = True  # only its area is compared
    return Instance(number, label, (x - side / 2, y - side / 2, x + side / 2, y + side / 2), mask)


def facts(scene, vocabulary=NAMES, counts=None, **more):
    """The annotation of a photo whose objects are all in the scene, unless there are other `counts`."""
    labels = [o.label for o in scene]
    return photos.Facts(scene, vocabulary, counts or {label: labels.count(label) for label in labels}, **more)
