"""`--mode=eval` on public benchmarks, with a policy of random weights: figures, parts, missing pictures, rescoring."""

import json
import logging
import pickle

import pytest
import tiny
from refcoco_folders import REFS, photo_name, write_release

from dtr1_jax.evaluation import benchmark_rows, table
from dtr1_jax.modes import evaluate, rescore


def run(path, workdir, root, **changes):
    c = tiny.settings(
        path,
        data__source="refcoco",
        data__root=str(root),
        policy__prompt_tokens=96,
        **({"train__eval_examples": 3} | changes),
    )
    text = evaluate.run(c, workdir)
    (folder,) = (workdir / "evaluations").iterdir()
    return text, folder, json.loads((folder / "eval.json").read_text())


@pytest.mark.parametrize(("task", "main"), [("segmentation", "giou"), ("grounding", "acc")])
def test_figures_of_the_benchmark(path, small, tmp_path, task, main, caplog):
    text, folder, found = run(path, tmp_path / "run", write_release(tmp_path), data__task=task)
    assert found[f"eval/refcoco/{task}_queries"] == 3 and 0 <= found[f"eval/refcoco/{main}"] <= 1
    assert f"refcoco: {main} {found[f'eval/refcoco/{main}']:.4f}" in text and "the first" not in caplog.text
    rows = table.read_predictions(folder / "predictions.jsonl")
    assert [row["benchmark"]["name"] for row in rows] == ["refcoco"] * 3
    again = json.loads(rescore.run(str(folder / "predictions.jsonl")).splitlines()[-1])
    assert {k: v for k, v in again.items() if k.startswith("eval/refcoco/")} == {
        k: v for k, v in found.items() if k.startswith("eval/refcoco/")
    }
    assert benchmark_rows.format_figures(again) in text


def test_a_part_is_named(path, small, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run(path, tmp_path / "run", write_release(tmp_path), train__eval_examples=2)
    assert "the first 2 of 3 queries of refcoco are asked" in caplog.text


def test_missing_pictures_count_as_wrong(path, small, tmp_path):
    root = write_release(tmp_path)
    broken = root / "images/mscoco/images/train2014" / photo_name(9)
    broken.write_bytes(broken.read_bytes()[:40])
    refs = [ref | {"split": "val"} for ref in REFS]
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    _, _, found = run(path, tmp_path / "run", root, train__eval_examples=5)
    assert found["eval/refcoco/missing"] == 3 and found["eval/refcoco/segmentation_queries"] == 2
    assert found["eval/refcoco/giou_of_all"] == pytest.approx(found["eval/refcoco/giou"] * 2 / 5)
