"""Held-out scores: what is written is enough to work the figures out again, and they are those of the answers."""

import dataclasses

import pytest
import tiny
from heldout import heldout

from dtr1_jax.data import demonstrations, image_files, json_files, pipeline, prompts, sources
from dtr1_jax.evaluation import answered, metrics
from dtr1_jax.policies import pretrained


def oracles(c, count):
    """Held-out examples with their canvases and the transcripts that are right about them."""
    source, style = sources.open_source(c.data, c.data.eval_split), pretrained.load_policy(c).style
    examples = [source[i] for i in range(count)]
    canvases = [prompts.prompt(e, style)[2] for e in examples]
    return examples, canvases, [demonstrations.oracle(e, canvas) for e, canvas in zip(examples, canvases)]


def test_masks_are_judged_even_where_the_reward_does_not_ask_for_them(path, small):
    c = tiny.settings(path, reward__weights__segmentation__mask_iou=0.0, train__eval_examples=2)
    tiny.speak(small, c, oracles(c, 2)[2])
    predictions = heldout(c)
    assert (
        "mask_iou" not in predictions[0].columns
        and metrics.compute_metrics([answered.of_prediction(p) for p in predictions])["eval/giou"] > 0.3
    )


def test_the_same_policy_answers_the_same(path, small):
    c = tiny.settings(path)
    texts = [p.transcript.text for p in heldout(c)]
    assert texts == [p.transcript.text for p in heldout(c)] and len(texts) == 4
    warm = dataclasses.replace(c, train=dataclasses.replace(c.train, eval_temperature=1.0))
    warm_texts = [p.transcript.text for p in heldout(warm)]
    assert warm_texts != texts and warm_texts == [p.transcript.text for p in heldout(warm)]


def test_on_eight_devices(path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        one = [p.transcript.text for p in heldout(tiny.settings(path, train__eval_examples=3))]  # batches of 2 and 1
    tiny.install(monkeypatch, devices=8)
    c = tiny.settings(path, train__eval_examples=3, mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
    assert [p.transcript.text for p in heldout(c)] == one  # 3 queries over 4 shares


class Broken:
    """A source whose first examples can not be read."""

    def __init__(self, source, broken):
        self._source, self._broken = source, broken

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index < self._broken:
            raise image_files.ImageError(f"photo {index}: corrupt")
        return self._source[index]


def test_unreadable_examples_are_left_out_and_counted(path, small, caplog):
    c = tiny.settings(path)
    source = sources.open_source(c.data, "heldout")
    skipped = pipeline.SkipCounter()
    predictions = heldout(c, Broken(source, 3), skipped=skipped)
    assert [p.example.uid for p in predictions] == [source[3].uid]
    numbers = metrics.compute_metrics([answered.of_prediction(p) for p in predictions], skipped.count)
    assert (numbers["eval/examples"], numbers["eval/examples_skipped"]) == (1, 3)
    assert "photo 2: corrupt" in caplog.text
    with pytest.raises(json_files.DataError, match="none of the 4 held-out examples"):
        heldout(c, Broken(source, 4))


def test_the_caller_may_stop_it_around_every_batch(path, small):
    c = tiny.settings(path, train__eval_batch=2)
    calls = []
    heldout(c, check=lambda: calls.append(None))
    assert len(calls) == 3
