"""Each config file builds, its first batches have the tasks it promises, and what a flawless policy writes fits."""

import collections
import importlib
import itertools

import pytest

from dtr1_jax import config
from dtr1_jax.data import demonstrations, pipeline, sources
from dtr1_jax.models import published_sizes
from dtr1_jax.modes import train
from dtr1_jax.policies import pretrained
from dtr1_jax.run import run_log
from dtr1_jax.types import TASKS, Video

NAMES = ("seg", "grounding", "vqa", "summary", "unified")
POLICIES = ("tiny", "auto", *published_sizes.CONFIGS)


def built(name, policy="tiny"):
    return config.from_configdict(importlib.import_module(f"configs.{name}").get_config(policy))


@pytest.mark.parametrize("name", NAMES)
def test_builds_for_every_policy(name):
    for policy in POLICIES:
        c = built(name, policy)
        assert c.policy.name == policy
        assert c.data.task == {"seg": "segmentation"}.get(name, name)


@pytest.mark.parametrize("name", NAMES)
def test_first_batches_and_their_oracle_fit(name):
    c = built(name)
    style = pretrained.load_policy(c).style
    skipped = pipeline.SkipCounter()
    cells = sources.cells(c.data)
    for split in (c.data.train_split, c.data.eval_split):
        source = sources.open_source(c.data, split)
        if split == "train":
            data = pipeline.query_batches(source, style, c.rollout.queries, seed=0, skips=skipped)
            batches = list(itertools.islice(data, 1))
        else:
            batches = list(pipeline.evaluation_batches(source, style, 16, 16, skipped))
        (batch,) = batches
        found = collections.Counter((e.task, any(isinstance(m, Video) for m in e.visuals)) for e in batch.examples)
        assert found == {(task, video): 16 // len(cells) for task, video, _ in cells}
        tokens, room = batch.prompt.token_bp.shape[1], c.policy.prompt_tokens
        assert tokens <= room and batch.prompt.mask_bp.sum(1).max() <= room
        patches = 144 * (4 if c.data.video else 1)
        assert batch.prompt.images.patch_bnc.shape[1] == patches
        for example, canvas in zip(batch.examples, batch.canvases):
            written = style.tokenizer.encode(demonstrations.oracle(example, canvas)) + [style.tokenizer.end]
            assert len(written) <= c.rollout.new_tokens
    assert not skipped.count


def test_unified_is_every_cell():
    assert {cell[:2] for cell in sources.cells(built("unified").data)} == set(itertools.product(TASKS, (False, True)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_step_of_the_shipped_policy(name, tmp_path):
    values = importlib.import_module(f"configs.{name}").get_config()
    values.rollout.queries, values.rollout.group, values.rollout.new_tokens = 8, 2, 24
    values.train.steps, values.train.eval_examples, values.train.eval_batch = 1, 8, 8
    values.reward.segmenter = "box"
    train.run(config.from_configdict(values), tmp_path)
    rows = run_log.read_run_log(tmp_path)
    assert [row["step"] for row in rows if "train/loss" in row] == [1]
    assert [row["step"] for row in rows if "eval/examples" in row] == [0, 1]
    assert all(row["eval/examples"] == 8 for row in rows if "eval/examples" in row)
    assert sum(row.get("train/examples_skipped", 0) for row in rows) == 0
