"""Mixtures of sources: every batch has its share of each part, the first N too, and the order is a pure function."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from configs import default
from dtr1_jax import config, types
from dtr1_jax.data import mixture, patches, pipeline, prompts, sources, tokenizer
from dtr1_jax.policies import policy_files
from dtr1_jax.twin.coordinates import Frame

STYLE = prompts.Style(
    tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"),
    patches.Geometry(8, 1, 2, 12, 32 * 32),
    Frame.PIXEL,
    "brief",
    64,
)
WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8).map(tuple)


@dataclasses.dataclass(frozen=True)
class Part:
    """Examples NAME/0, NAME/1, ..."""

    name: str
    size: int

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        uid = f"{self.name}/{range(self.size)[index]}"
        target = types.Target(np.zeros((8, 8), bool), np.zeros((0, 4), np.float32))
        return types.Example(uid, np.zeros((8, 8, 3), np.uint8), "look", "segmentation", target)


def two(a=40, b=12, weights=(3.0, 1.0)):
    return mixture.Mixture((Part("a", a), Part("b", b)), weights)


def test_by_hand():
    places = mixture.interleave((2.0, 1.0))
    # a cycle is a b a, at 1/4, 1/2 and 3/4; each next cycle begins a slot later: a b a | b a a | a a b
    actual = [places.at(n) for n in range(9)]
    assert actual == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 3), (0, 2), (0, 5), (0, 4), (1, 2)]
    assert [places.place(*at) for at in actual] == list(range(9))


@given(WEIGHTS, st.integers(0, 10**12))
@settings(deadline=None)
def test_places_are_a_bijection(weights, start):
    places = mixture.interleave(weights)
    pairs = [places.at(n) for n in range(start, start + 50)]
    assert [places.place(*at) for at in pairs] == list(range(start, start + 50))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
@settings(deadline=None)
def test_after_any_number_of_slots_each_part_has_had_its_share(counts):
    actual = np.array([mixture.spread(counts)]).T == np.arange(len(counts))
    t = np.arange(1, sum(counts) + 1)[:, None]
    away = np.abs(actual.cumsum(0) - np.array(counts) * t / sum(counts)).max()
    assert away <= 1 - 1 / max(2 * len(counts) - 2, 2) + 1e-9
    assert actual.sum(0).tolist() == counts


def test_small_parts_beside_a_large_one_do_not_come_all_at_once():
    slots = np.array(mixture.spread([1, 1, 1, 1, 236]))
    assert np.diff(np.flatnonzero(slots < 4)).min() > 20


@given(WEIGHTS)
@example((1.0, 1.0, 1.0, 1.0, 197.0))
@settings(deadline=None, max_examples=30)
def test_every_row_of_places_has_its_shares(weights):
    places, share = mixture.interleave(weights), np.array(weights) / sum(weights)
    parts = np.array([places.at(n)[0] for n in range(700)])
    count = np.array([parts == i for i in range(len(weights))]).cumsum(1)
    for length in (7, 16, 128, 600):
        rows = count[:, length:] - count[:, :-length]
        # parts too small for a slot get one all the same, at the cost of the others
        assert np.abs(rows - share[:, None] * length).max() <= 3 + 2 * len(weights) * length / mixture.SLOTS


@pytest.mark.parametrize("weights", [(), (1.0, 0.0), (-1.0,), (float("nan"),), (1.0,) * 241])
def test_bad_weights(weights):
    with pytest.raises(ValueError, match="weights above 0"):
        mixture.interleave(weights)


def test_the_first_are_balanced_and_the_end_is_that_of_the_first_part():
    source = two()
    assert [source[i].uid for i in range(6)] == ["a/0", "a/1", "b/0", "a/2", "a/4", "b/1"]
    uids = [source[i].uid for i in range(len(source))]
    assert len(set(uids)) == len(uids) and 44 <= len(uids) <= 52
    for n in (8, 16, 40):
        assert abs(sum(uid.startswith("b") for uid in uids[:n]) - n / 4) <= 1
    with pytest.raises(IndexError):
        source[mixture.interleave((3.0, 1.0)).place(1, 12)]
    with pytest.raises(IndexError):
        source[-1]
    assert len(list(source)) >= len(source)


def uids(batches, count):
    return [[e.uid for e in batch.examples] for batch in itertools.islice(batches, count)]


def queries(source, batch=8, **options):
    return pipeline.query_batches(source, STYLE, batch, seed=0, **options)


def test_each_batch_has_its_share_and_each_part_is_shuffled_and_read_whole():
    batches = uids(queries(two()), 20)
    assert all(sum(uid.startswith("b") for uid in batch) == 2 for batch in batches)
    flat = list(itertools.chain(*batches))
    a, b = ([uid for uid in flat if uid.startswith(name)] for name in "ab")
    assert set(collections.Counter(a).values()) == {3} and len(set(a)) == 40  # 120 of them, three passes
    assert sorted(b[:12]) == sorted(b[12:24]) != b[:12] != b[12:24]
    assert [uid[2:] for uid in a[:12]] != [uid[2:] for uid in b[:12]]


def test_mixtures_repeat_resume_and_are_shared_by_hosts():
    expected = uids(queries(two()), 6)
    data = iter(queries(two()))
    uids(data, 2)
    state, other = data.get_state(), iter(queries(two()))
    other.set_state(state)
    assert uids(other, 4) == expected[2:]
    shares = [uids(queries(two(), 4, shard=(i, 2)), 6) for i in range(2)]
    assert [first + second for first, second in zip(*shares)] == expected
    other_seed = uids(pipeline.query_batches(two(), STYLE, 8, seed=1), 6)
    assert other_seed != expected


def data(**changes):
    return dataclasses.replace(config.from_configdict(default.get_config()).data, **changes)


def test_cells_of_the_settings():
    assert sources.cells(data()) == [("segmentation", False, 1.0)]
    assert sources.cells(data(task="vqa", video=1.0)) == [("vqa", True, 1.0)]
    mix = {"segmentation": 2.0, "grounding": 0.0, "vqa": 1.0}
    assert sources.cells(data(task="unified", video=0.25, mix=mix)) == [
        ("segmentation", False, 1.5), ("vqa", False, 0.75), ("segmentation", True, 0.5), ("vqa", True, 0.25),
    ]  # fmt: skip


def test_twinworld_unified_has_all_cells_in_every_eight():
    source = sources.open_source(data(task="unified", video=0.5), "heldout")
    every = {(task, video) for task in types.TASKS for video in (False, True)}
    for start in (0, 8):
        cells = {(e.task, bool(e.visuals)) for e in (source[i] for i in range(start, start + 8))}
        assert cells == every
    assert len(source) == 8 * sources.HELDOUT
    assert repr(source) == repr(sources.open_source(data(task="unified", video=0.5), "heldout"))
    others = [data(task="unified"), data(task="unified", video=0.5, frames=5), data(task="unified", video=0.25)]
    assert len({repr(source), *(repr(sources.open_source(d, "heldout")) for d in others)}) == 4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"source": "coco", "task": "vqa"}, "expected one of segmentation, grounding, .* got data.task = 'vqa'"),
        ({"source": "davis", "task": "unified"}, r"'unified' with data\.mix\.vqa above 0"),
        ({"video": 1.0, "max_video_objects": 7}, "max_objects <= 6"),
        ({"video": 1.0, "frames": 3}, "4 to 64 frames"),
    ],
)
def test_a_source_refuses_tasks_and_settings_that_it_cannot_serve(changes, message):
    with pytest.raises(sources.DataError, match=message):
        sources.open_source(data(**changes), "train")


def test_frames_of_the_settings():
    assert sources.max_frames(data()) == 1
    assert sources.max_frames(data(video=0.5)) == 4 and sources.max_frames(data(video=0.5, frames=6)) == 6
    assert sources.max_frames(data(source="davis")) == 8 and sources.max_frames(data(source="coco", frames=6)) == 1
    assert sources.max_frames(data(source="jsonl")) == 1 and sources.max_frames(data(source="jsonl", frames=6)) == 6
    assert sources.open_source(data(video=1.0, frames=5), "train")[3].visuals[0].frames.shape == (5, 96, 96, 3)
