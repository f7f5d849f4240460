"""The benchmark on minute shapes: shared and tiled prompts give equal results, and the JSON line has all fields."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import scripts

from dtr1_jax.models import policy
from dtr1_jax.rl import update

speed = scripts.load_script("experiments/speed.py")

MINUTE = dataclasses.replace(
    speed.TEXT5M, vocab=64, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=32, unroll=1
)
WORK = speed.Work(MINUTE, queries=2, group=4, prompt_tokens=8, new_tokens=6, rows=2)


@pytest.mark.parametrize("shape", ["prefix", "text5m"])
def test_prints_one_line_and_shared_equals_tiled(shape, monkeypatch, capsys):
    monkeypatch.setitem(speed.SHAPES, shape, WORK)
    speed.main([f"--shape={shape}", "--steps=1", "--rounds=1"])
    line = json.loads(capsys.readouterr().out)
    assert line["loss_diff"] < 1e-5 and line["grad_diff"] < 1e-5 and line["same_tokens"] == 1
    fields = {"update_speedup", "rollout_speedup"}
    fields |= {f"{part}_tokens_per_s{kind}" for part in ("update", "rollout") for kind in ("", "_tiled")}
    if shape == "text5m":
        fields |= {"step_s", "generate_s", "update_s", "peak_rss_mb"}
        assert line["step_s"] >= line["generate_s"] > 0 and line["peak_rss_mb"] > 1
    assert fields <= line.keys() and all(line[name] > 0 for name in fields)


def test_text5m_has_the_sizes_of_the_other_trainers():
    work = speed.SHAPES["text5m"]
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), work.spec))
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 4_987_136
    assert (work.queries, work.group, work.prompt_tokens, work.new_tokens) == (4, 8, 256, 128)


def test_a_difference_is_measured(monkeypatch):
    """Another prompt in the tiled update gives another gradient."""

    def other(work, tree):
        out = honest(work, tree)
        if isinstance(tree, speed.Prompt):
            out = dataclasses.replace(out, token_bp=(out.token_bp + 1) % work.spec.vocab)
        return out

    honest = speed.tiled
    monkeypatch.setattr(speed, "tiled", other)
    line = speed.compare(WORK, policy.init(jax.random.key(0), MINUTE), rounds=1)
    assert line["grad_diff"] > 1e-3 and line["same_tokens"] < 1


def test_tiled_keeps_the_order():
    token_bgs = np.arange(2 * 4 * 6).reshape(2, 4, 6)
    np.testing.assert_array_equal(speed.tiled(WORK, token_bgs)[5, 0], token_bgs[1, 1])
    prompt = speed.prompts(WORK, 0)
    np.testing.assert_array_equal(speed.tiled(WORK, prompt).token_bp[5], prompt.token_bp[1])
    assert isinstance(speed.fresh({}), update.State)
