"""Phrases and the classes that they mean, by hand."""

import pytest

from dtr1_jax.specialists import phrase_classes

CLASSES = (
    "person", "bicycle", "car", "bus", "wine glass", "cup", "knife", "couch", "dining table", "tv", "mouse", "sheep",
    "teddy bear", "bear", "hot dog", "dog", "sports ball", "scissors", "skis", "toothbrush", "tie", "glass",
)  # fmt: skip


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("couch", "couch"), ("Sofa", "couch"), ("a TV", "tv"), ("the dining-table", "dining table"),
        ("wine glasses", "wine glass"), ("glasses", "glass"), ("people", "person"), ("women", "person"),
        ("every boy", "person"), ("knives", "knife"), ("buses", "bus"), ("mice", "mouse"), ("sheep", "sheep"),
        ("red double-decker bus", "bus"), ("teddy bears", "teddy bear"), ("brown bear", "bear"),
        ("hot dogs", "hot dog"), ("big dogs", "dog"), ("mug", "cup"), ("the blue mugs", "cup"),
        ("table", "dining table"),
        ("scissors", "scissors"), ("skis", "skis"), ("ball", "sports ball"), ("bikes", "bicycle"), ("ties", "tie"),
        ("toothbrushes", "toothbrush"),
    ],
)  # fmt: skip
def test_phrases_with_a_class(phrase, name):
    assert phrase_classes.classes_of(phrase, CLASSES) == (name,)


@pytest.mark.parametrize("phrase", ["kettle", "dog house", "cardboard", "", "   ", "the", "日本語", "s", "x" * 60])
def test_phrases_without_a_class(phrase):
    assert phrase_classes.classes_of(phrase, CLASSES) == ()


def test_classes_that_mean_the_same_are_all_found():
    assert phrase_classes.classes_of("sofas", ("sofa", "couch")) == ("sofa", "couch")
    assert phrase_classes.classes_of("Chairs", ("CHAIR",)) == ("CHAIR",)


def test_every_kind_has_one_class():
    kinds = [kind for names in phrase_classes.KINDS.values() for kind in names]
    assert len(kinds) == len(set(kinds)) and not set(kinds) & set(phrase_classes.KINDS)
