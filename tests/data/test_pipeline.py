"""Batches: the same in every run and after a resume, each example once a pass, and broken ones cost only themselves."""

import dataclasses
import itertools
import json
import logging
import pickle

import jax
import numpy as np
import pytest
from absl import flags

from dtr1_jax import types
from dtr1_jax.data import batches, image_files, json_files, patches, pipeline, prompts, tokenizer
from dtr1_jax.policies import policy_files
from dtr1_jax.twin.coordinates import Frame

SMALL = patches.Geometry(8, 1, 2, 12, 32 * 32)
STYLE = prompts.Style(tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"), SMALL, Frame.PIXEL, "brief", 64)


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures of one grey; those at `broken` cannot be read, those at `long` make too long a prompt."""

    size: int
    broken: tuple[int, ...] = ()
    long: tuple[int, ...] = ()
    error: type[Exception] = image_files.ImageError

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.broken:
            raise self.error(f"photo{index}.jpg: the picture is corrupt")
        target = types.Target(np.zeros((20, 30), bool), np.zeros((0, 4), np.float32))
        query = "very " * 200 * (index in self.long) + f"number {index}"
        return types.Example(str(index), np.full((20, 30, 3), index, np.uint8), query, "segmentation", target)


def uids(batches):
    return [[int(e.uid) for e in batch.examples] for batch in batches]


def flat(batches):
    return list(itertools.chain(*uids(batches)))


def take(data, count):
    return list(itertools.islice(data, count))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_batch_has_the_prompts_of_its_examples():
    (batch,) = take(pipeline.query_batches(Source(50), STYLE, 4, seed=0), 1)
    assert len(batch.examples) == len(batch.canvases) == 4
    for row, example in enumerate(batch.examples):
        fields, pictures, canvas = prompts.prompt(example, STYLE)
        assert batch.canvases[row] == canvas
        same({name: getattr(batch.prompt, name)[row] for name in fields}, fields)
        padded = batches.pad_patches(pictures, SMALL.patches)
        assert padded.pop("window_bn") is batch.prompt.images.window_bn is None
        same({name: getattr(batch.prompt.images, name)[row] for name in padded}, padded)
    assert batch.prompt.token_bp.shape == (4, STYLE.length)


def test_order_depends_on_the_seed_alone():
    runs = [uids(take(pipeline.query_batches(Source(40), STYLE, 4, seed=s), 20)) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_every_pass_shows_each_example_once_in_a_new_order():
    order = flat(take(pipeline.query_batches(Source(12), STYLE, 4, seed=0), 6))
    assert sorted(order[:12]) == sorted(order[12:]) == list(range(12))
    assert order[:12] != order[12:]


def test_batches_run_across_passes():
    order = flat(take(pipeline.query_batches(Source(3), STYLE, 2, seed=0), 6))
    assert [sorted(order[i : i + 3]) for i in range(0, 12, 3)] == [[0, 1, 2]] * 4


@pytest.mark.parametrize("count", [2, 3, 6])
def test_processes_share_the_rows_of_the_same_batches(count):
    source = Source(14, broken=(3, 9))  # an example that cannot be used costs no process its place
    whole = take(pipeline.query_batches(source, STYLE, 6, seed=5), 4)
    shares = [
        take(pipeline.query_batches(source, STYLE, 6 // count, seed=5, shard=(i, count)), 4) for i in range(count)
    ]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert uids([batch]) == [flat(parts)]
        assert batch.numbers.tolist() == [n for part in parts for n in part.numbers.tolist()] == list(range(6))


def test_a_position_fits_another_number_of_processes():
    source = Source(14, broken=(3,))
    expected = uids(take(pipeline.query_batches(source, STYLE, 4, seed=5), 5))
    halves = [iter(pipeline.query_batches(source, STYLE, 2, seed=5, shard=(i, 2))) for i in range(2)]
    for half in halves:
        take(half, 2)
    assert halves[0].get_state() == halves[1].get_state() == {"batch": 2}
    one = iter(pipeline.query_batches(source, STYLE, 4, seed=5))
    one.set_state(halves[0].get_state())
    assert uids(take(one, 1)) == expected[2:3]
    quarters = [iter(pipeline.query_batches(source, STYLE, 1, seed=5, shard=(i, 4))) for i in range(4)]
    for quarter in quarters:
        quarter.set_state(one.get_state())
    assert [flat(parts) for parts in zip(*(take(quarter, 2) for quarter in quarters))] == expected[3:]


def test_a_position_of_an_earlier_version(caplog):
    expected = uids(take(pipeline.query_batches(Source(10), STYLE, 4, seed=5), 3))
    for state, warnings in (({"next_index": 8}, 0), ({"next_index": 9}, 1), ({"workers_state": {}}, 1)):
        caplog.clear()
        data = iter(pipeline.query_batches(Source(10), STYLE, 4, seed=5))
        data.set_state(state)
        assert uids(take(data, 1)) == [expected[2 if "next_index" in state else 0]]
        assert sum("the position in the data of an earlier version" in r.message for r in caplog.records) == warnings


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_resume_goes_on_with_the_next_batch(stop):
    def begin():
        return iter(pipeline.query_batches(Source(10, broken=(3, 4)), STYLE, 3, seed=2))

    data = begin()
    take(data, stop)
    state = data.get_state()
    expected = take(data, 5)
    again = begin()
    take(again, 2)  # wherever it stands
    again.set_state(state)
    actual = take(again, 5)
    assert uids(actual) == uids(expected)
    same([b.prompt for b in actual], [b.prompt for b in expected])


def test_state_is_small_and_fits_json():
    data = iter(pipeline.query_batches(Source(10), STYLE, 3, seed=2))
    take(data, 2)
    state = data.get_state()
    text = json.dumps(state)
    assert len(text) < 1000
    expected = uids(take(data, 2))
    data.set_state(json.loads(text))
    assert uids(take(data, 2)) == expected


@pytest.fixture
def parsed_flags():
    """grain asks the flags of absl when it starts a process; main.py parses them, pytest does not."""
    flags.FLAGS.mark_as_parsed()
    yield
    flags.FLAGS.unparse_flags()


@pytest.mark.slow
def test_a_worker_process_gives_the_same_and_resumes(parsed_flags):
    source = Source(9, broken=(2,), error=OSError)
    expected = uids(take(pipeline.query_batches(source, STYLE, 2, seed=0), 5))
    data = iter(pipeline.query_batches(source, STYLE, 2, seed=0, workers=1))
    assert uids(take(data, 3)) == expected[:3]
    state = data.get_state()
    assert uids(take(data, 2)) == expected[3:]
    data.set_state(state)
    assert uids(take(data, 2)) == expected[3:]


@pytest.mark.slow
def test_all_broken_ends_in_a_worker_process_too(parsed_flags):
    data = iter(pipeline.query_batches(Source(3, broken=(0, 1, 2)), STYLE, 2, seed=0, workers=1))
    with pytest.raises(json_files.DataError, match="none of 30 examples in a row could be used"):
        next(data)


def test_broken_examples_are_skipped_and_counted(caplog):
    skipped = pipeline.SkipCounter()
    data = iter(pipeline.query_batches(Source(9, broken=(1,), long=(4, 5)), STYLE, 3, seed=0, skips=skipped))
    with caplog.at_level(logging.WARNING):
        order = flat(take(data, 6))
    whole = flat(take(iter(pipeline.query_batches(Source(9), STYLE, 3, seed=0)), 6))
    assert all(a == b or b in (1, 4, 5) for a, b in zip(order, whole))  # others stand in at their places alone
    assert not {1, 4, 5} & set(order)
    assert skipped.count >= 6  # the thread may be ahead of the batches
    warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == 5
    assert warnings[0].startswith("skipped an example (1 so far): ")
    assert warnings[-1].endswith("; more will only be counted")
    assert any("photo1.jpg: the picture is corrupt" in w for w in warnings)
    assert any("4: the prompt has" in w for w in warnings)


def test_an_error_of_the_file_system_costs_one_example(caplog):
    source, skips = Source(4, broken=(2,), error=OSError), pipeline.SkipCounter()
    got = flat(take(pipeline.query_batches(source, STYLE, 2, seed=0, skips=skips), 4))
    assert 2 not in got and all(set(got[i : i + 4]) == {0, 1, 3} for i in (0, 4))
    assert skips.count >= 1 and "photo2.jpg" in caplog.text
    assert flat(pipeline.evaluation_batches(source, STYLE, 2, 4)) == [0, 1, 3]


def test_skipped_travels_to_processes():
    skipped = pipeline.SkipCounter()
    skipped.add(ValueError("x"))
    twin = pickle.loads(pickle.dumps(skipped))
    twin.add(ValueError("y"))
    assert (skipped.count, twin.count) == (1, 2)


@pytest.mark.parametrize("size, count", [(1, 10), (7, 70), (10_000, 2000)])
def test_all_broken_is_an_error_and_not_silence(size, count):
    source = Source(size, broken=range(size))
    with pytest.raises(
        json_files.DataError, match=rf"none of {count} examples in a row .* {size}\); the last: photo.*corrupt"
    ):
        next(iter(pipeline.query_batches(source, STYLE, 2, seed=0)))


def test_one_good_example_is_enough():
    data = pipeline.query_batches(Source(50, broken=tuple(range(1, 50))), STYLE, 2, seed=0)
    assert uids(take(data, 8)) == [[0, 0]] * 8


def test_too_long_prompts_alone_are_an_error():
    with pytest.raises(json_files.DataError, match=r"raise policy\.prompt_tokens"):
        next(iter(pipeline.query_batches(Source(5), dataclasses.replace(STYLE, length=3), 2, seed=0)))


def test_other_errors_are_not_swallowed():
    class Wrong(Source):
        def __getitem__(self, index):
            raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        next(iter(pipeline.query_batches(Wrong(5), STYLE, 2, seed=0)))


def test_empty_source():
    with pytest.raises(json_files.DataError, match=r"no examples in Source\(size=0"):
        pipeline.query_batches(Source(0), STYLE, 2, seed=0)


def test_evaluation_is_in_order_with_a_last_partial_batch():
    skipped = pipeline.SkipCounter()
    source = Source(20, broken=(2, 9), long=(5,))
    batches = list(pipeline.evaluation_batches(source, STYLE, 3, 10, skipped))
    assert uids(batches[:3]) == [[0, 1], [3, 4], [6, 7, 8]] and batches[3:] == [None] and skipped.count == 3
    assert [batch.numbers.tolist() for batch in batches[:3]] == uids(batches[:3])
    shares = [list(pipeline.evaluation_batches(source, STYLE, 3, 10, shard=(i, 2))) for i in range(2)]
    assert [[b and flat([b]) for b in share] for share in shares] == [[[0], [3], [6], None], [[1], [4], [7, 8], None]]
    assert flat([pipeline.first_usable(Source(9, broken=(0, 1)), STYLE, 9)]) == [2]
    assert pipeline.first_usable(Source(9, broken=(0, 1)), STYLE, 2) is None
    assert uids(pipeline.evaluation_batches(Source(6), STYLE, 3, 100)) == [[0, 1, 2], [3, 4, 5]]
    assert uids(pipeline.evaluation_batches(Source(6), STYLE, 3, 0)) == []
    assert list(pipeline.evaluation_batches(Source(2, broken=(0, 1)), STYLE, 3, 2)) == [None]


def test_single():
    batch = pipeline.single_batch(Source(5)[3], STYLE)
    assert uids([batch]) == [[3]]
    assert batch.prompt.token_bp.shape == (1, STYLE.length)
    with pytest.raises(prompts.PromptError):
        pipeline.single_batch(Source(5, long=(3,))[3], STYLE)
