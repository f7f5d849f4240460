"""Objects of a video by a tracker with a memory: found where the detector saw nothing, one object for each, by hand."""

import fake_specialists as fakes
import numpy as np
import pytest
from fake_specialists import picture

from dtr1_jax.specialists import memory_rows
from dtr1_jax.specialists.sightings import Sighting
from dtr1_jax.twin import masks as mask_codes


def frame(*labels, at=0):
    """A person on the left and a dog on the right, moved by `at` pixels."""
    places = {"person": (10 + at, 10, 30 + at, 60), "dog": (60 + at, 40, 90 + at, 60)}
    return picture(*[(label, *places[label]) for label in labels])


def sighting(image, colour, label=None, score=0.9, masked=True):
    mask = (image == fakes.COLOURS[colour]).all(-1)
    return Sighting(label or colour, score, np.array(mask_codes.bbox(mask)), mask=mask if masked else None, mask_by="s")


BOTH = [frame("person", "dog", at=3 * t) for t in range(4)]


def rows(frames, images, track=None):
    return memory_rows.rows(frames, images, track or fakes.Follower(), 0.6, "memory")


def check(row, images, colour):
    """A row has the pixels of a colour in each frame."""
    for one, image in zip(row, images, strict=True):
        pixels = (image == fakes.COLOURS[colour]).all(-1)
        assert (one is None) == (not pixels.any())
        if one is not None:
            assert (one.mask == pixels).all() and one.mask_by == "memory" and one.mask_score == pytest.approx(0.7)
            np.testing.assert_allclose(one.box, mask_codes.bbox(pixels))


@pytest.mark.parametrize("t", range(4))
@pytest.mark.parametrize("masked", [True, False])
def test_an_object_that_was_seen_once_is_found_in_all_frames(t, masked):
    found = [[sighting(BOTH[t], "dog", score=0.4, masked=masked)] if k == t else [] for k in range(4)]
    track = fakes.Follower()
    (row,) = rows(found, BOTH, track)
    check(row, BOTH, "dog")
    assert [one.score for one in row] == [0.4] * 4
    assert track.calls == [(4 - t, 1)] + ([(t + 1, 1)] if t else [])


def test_what_the_detector_saw_of_a_known_object_is_no_new_one():
    found = [[sighting(image, "person", score=0.5 + 0.1 * t), sighting(image, "dog")] for t, image in enumerate(BOTH)]
    track = fakes.Follower()
    person, dog = rows(found, BOTH, track)
    check(person, BOTH, "person"), check(dog, BOTH, "dog")
    assert track.calls == [(4, 2)] and [one.score for one in person] == pytest.approx([0.5, 0.6, 0.7, 0.8])


def test_another_label_on_the_same_pixels_is_the_same_object():
    names = ("dog", "cat", "dog", "dog")
    (row,) = rows([[sighting(image, "dog", name)] for image, name in zip(BOTH, names)], BOTH)
    assert tuple(one.label for one in row) == names


def test_an_object_that_comes_later_is_a_row_of_its_own():
    images = [frame("person"), frame("person"), frame("person", "dog", at=2), frame("dog", at=4)]
    colours = [["person"], ["person"], ["person", "dog"], ["dog"]]
    found = [[sighting(image, colour) for colour in names] for image, names in zip(images, colours)]
    person, dog = rows(found, images)
    check(person, images, "person"), check(dog, images, "dog")


def test_an_object_that_was_lost_and_is_seen_again_is_one():
    """Forwards it is lost after two frames; from its second sighting backwards, both tracks have the first of them."""
    found = [[sighting(BOTH[0], "dog")], [], [sighting(BOTH[2], "dog", score=0.8)], []]
    track = fakes.Follower(lost=2)
    (row,) = rows(found, BOTH, track)
    check(row, BOTH, "dog")
    assert track.calls == [(4, 1), (2, 1), (3, 1)] and [one.score for one in row] == [0.9, 0.9, 0.8, 0.8]


def test_what_the_tracker_cannot_see_at_all_is_still_what_the_detector_saw():
    found = [[], [sighting(BOTH[1], "dog")], [], []]
    (row,) = rows(found, BOTH, fakes.Follower(lost=0))
    assert row == [None, found[1][0], None, None]


def test_two_tracks_that_share_no_frame_are_two_objects():
    found = [[sighting(BOTH[0], "dog")], [], [], [sighting(BOTH[3], "dog")]]
    assert [[one is not None for one in row] for row in rows(found, BOTH, fakes.Follower(lost=1))] == [
        [True, False, False, False], [False, False, False, True],
    ]  # fmt: skip


def test_two_objects_of_one_label_stay_two():
    images = [picture(("dog", 5, 5, 25, 25), ("car", 60, 5, 90, 25), size=(40, 100))] * 2
    found = [[sighting(image, "dog"), sighting(image, "car", "dog")] for image in images]
    first, second = rows(found, images)
    check(first, images, "dog"), check(second, images, "car")
    assert {one.label for one in first + second} == {"dog"}


def test_a_tracker_that_gives_something_else_is_refused():
    def small(frames, prompts):
        for at in fakes.Follower()(frames, prompts):
            yield type(at)(
                masks=at.masks[:, :4], scores=at.scores, frame=at.frame, objects=at.objects, present=at.present
            )

    found = [[sighting(BOTH[0], "dog")], [], [], []]
    with pytest.raises(ValueError, match=r"gave a mask of \(4, 120\), expected \(80, 120\)"):
        rows(found, BOTH, small)
    with pytest.raises(ValueError, match="masks of 2 frames, expected 4"):
        rows(found, BOTH, lambda frames, prompts: list(fakes.Follower()(frames, prompts))[:2])


def test_nothing_seen_is_no_object_and_no_call():
    track = fakes.Follower()
    assert rows([[], [], [], []], BOTH, track) == [] and track.calls == []
