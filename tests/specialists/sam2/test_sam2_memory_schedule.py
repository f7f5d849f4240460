"""Which slots are read and written, worked out by hand, and against a plain list of frames."""

import dataclasses

import numpy as np

from dtr1_jax.specialists.sam2 import memory_schedule as schedule
from dtr1_jax.specialists.sam2.memory_schedule import Record
from dtr1_jax.specialists.sam2.spec import from_config

MEMORY = dataclasses.replace(from_config({"model_type": "sam2_video"}).memory, frames=4, pointers=5)


def test_by_hand():
    """Conditioning frame 0 in slot 0 of 1; frames 1 to 5 went to slots 1 + frame % 3, so 3, 4, 5 are left."""
    record = Record()
    for frame in range(6):
        slots = schedule.written(record, frame, frame == 0, MEMORY, 1)
        assert slots == ((0, 0) if frame == 0 else (1 + frame % 3, 1 + frame % 4))
        record = record.with_frame(frame, frame == 0, MEMORY)
    age, distance = schedule.read(record, 6, MEMORY, 1, 5)
    assert age.tolist() == [3, 2, 1, 0]  # the conditioning frame, then frames 3, 4 and 5: gaps 3, 2 and 1
    np.testing.assert_allclose(distance, [6 / 4, 4 / 5 * 0 + 2 / 4, 1 / 4, 4 / 4, 3 / 4])  # frames 0, 4, 5, 2, 3


def test_the_first_frames_leave_slots_unused():
    record = Record().with_frame(0, True, MEMORY)
    age, distance = schedule.read(record, 1, MEMORY, 2, 5)
    assert age.tolist() == [3, -1, -1, -1, -1] and distance.tolist() == [0.25, -1, -1, -1, -1, -1]


def test_too_many_conditioning_frames():
    """Only the nearest is read as such; another one within reach counts as any other frame; pointers are all read."""
    memory = dataclasses.replace(MEMORY, most_conditions=1)
    record = Record()
    for frame in (0, 5, 7):
        record = record.with_frame(frame, True, memory)
    age, distance = schedule.read(record, 8, memory, 4, 5)
    assert age[:4].tolist() == [-1, 2, 3, -1] and distance[:4].tolist() == [2.0, 0.75, 0.25, -1]


def test_a_record_does_not_grow():
    record = Record().with_frame(0, True, MEMORY)
    for frame in range(1, 500):
        record = record.with_frame(frame, False, MEMORY)
    assert len(record.recent) <= 5 and record.conditions == (0,)
    age, distance = schedule.read(record, 500, MEMORY, 1, 5)
    assert sorted(age.tolist()) == [0, 1, 2, 3] and sorted(distance.tolist()) == [0.25, 0.5, 0.75, 1.0, 125.0]


def test_short_videos_read_fewer_pointers():
    assert [schedule.pointer_frames(MEMORY, n) for n in (None, 3, 50)] == [5, 3, 5]
    record = Record().with_frame(0, True, MEMORY).with_frame(1, False, MEMORY)
    _, distance = schedule.read(record, 2, MEMORY, 1, schedule.pointer_frames(MEMORY, 3))
    assert distance.tolist() == [1.0, -1, 0.5, -1, -1]
