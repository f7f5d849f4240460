"""`--mode=eval` on a public benchmark with a policy of random weights: figures, parts, missing pictures, rescoring."""

import json
import logging
import pickle

import pytest
import tiny
from refcoco_folders import REFS, photo_name, write_release

from dtr1_jax.evaluation import benchmark_rows, table
from dtr1_jax.modes import evaluate, rescore


def run(path, workdir, root, **changes):
    settings = {"data__source": "refcoco", "data__root": str(root), "policy__prompt_tokens": 96} | changes
    text = evaluate.run(tiny.settings(path, **settings), workdir)
    (folder,) = (workdir / "evaluations").iterdir()
    return text, folder, json.loads((folder / "eval.json").read_text())


def test_figures_of_the_benchmark(path, small, tmp_path, caplog):
    root = write_release(tmp_path)
    text, folder, found = run(path, tmp_path / "run", root, data__task="grounding", train__eval_examples=3)
    assert found["eval/refcoco/grounding_queries"] == 3 and 0 <= found["eval/refcoco/acc"] <= 1
    assert f"refcoco: acc {found['eval/refcoco/acc']:.4f}" in text and "the first" not in caplog.text
    rows = table.read_predictions(folder / "predictions.jsonl")
    assert [row["benchmark"]["name"] for row in rows] == ["refcoco"] * 3
    again = json.loads(rescore.run(str(folder / "predictions.jsonl")).splitlines()[-1])
    own = {key: value for key, value in found.items() if key.startswith("eval/refcoco/")}
    assert {key: value for key, value in again.items() if key in own} == own and len(own) == 3
    assert benchmark_rows.format_figures(again) in text


def test_a_part_is_named_and_missing_pictures_count_as_wrong(path, small, tmp_path, caplog):
    root = write_release(tmp_path)
    broken = root / "images/mscoco/images/train2014" / photo_name(9)
    broken.write_bytes(broken.read_bytes()[:40])
    refs = [ref | {"split": "val"} for ref in REFS]
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    with caplog.at_level(logging.WARNING):
        _, _, found = run(path, tmp_path / "run", root, train__eval_examples=4)
    assert "the first 4 of 5 queries of refcoco are asked" in caplog.text
    assert found["eval/refcoco/missing"] == 3 and found["eval/refcoco/segmentation_queries"] == 1
    assert found["eval/refcoco/giou_of_all"] == pytest.approx(found["eval/refcoco/giou"] / 4)
