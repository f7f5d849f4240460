"""Twins that the prompt shows: the truth does not choose their objects, and they say how many were left out."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import inspection, mixture, pipeline, prompts, sources, tokenizer
from dtr1_jax.data.readers import jsonl
from dtr1_jax.policies import policy_files
from dtr1_jax.twin.coordinates import Frame

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
GIVEN = prompts.Style(T, None, Frame.PIXEL, "brief", 400, constructor="given")
POLICY = dataclasses.replace(GIVEN, constructor="policy")
# Ten cups, each larger than the one before.
CUPS = [{"label": f"cup{k}", "box": [10 * k, 0, 10 * k + 8, 10 + k]} for k in range(10)]
VIDEO = [{"label": cup["label"], "track": {"0": cup["box"], "1": cup["box"]}} for cup in CUPS]


def opened(folder, name, **fields):
    """A source of two lines about a black picture or video with the cups; three of them may be in a twin."""
    Image.fromarray(np.zeros((40, 100, 3), np.uint8)).save(folder / "a.png")
    (folder / "v").mkdir(exist_ok=True)
    for t in range(2):
        Image.fromarray(np.zeros((40, 100, 3), np.uint8)).save(folder / "v" / f"{t}.png")
    visual = {"video": "v", "objects": VIDEO} if "tracks" in fields else {"image": "a.png", "objects": CUPS}
    rows = [visual | {"query": "which is red?", "id": f"{name}{k}", "split": "train"} | fields for k in range(2)]
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return jsonl.open_jsonl_source(str(folder / f"{name}.jsonl"), "train", "segmentation", max_objects=3)


def labels(example):
    return [item.label for item in example.scene]


@pytest.mark.parametrize(
    "fields",
    [
        {"boxes": [CUPS[0]["box"]]},
        {"boxes": [CUPS[0]["box"]], "oracle": {"answer": [1]}},
        {"tracks": [VIDEO[0]["track"]]},
        {"tracks": [VIDEO[0]["track"]], "oracle": {"answer": [1]}},
    ],
)
def test_the_truth_chooses_no_object_of_a_given_twin(tmp_path, fields):
    source = opened(tmp_path, "a", **fields)
    (example, _) = (source[k] for k in range(2))
    assert labels(example) == ["cup0", "cup8", "cup9"] and example.answer_ids == (1,) and example.hidden_objects == 7
    batches = [
        next(iter(pipeline.query_batches(source, GIVEN, 1, seed=0))),
        next(iter(pipeline.evaluation_batches(source, GIVEN, 1, 2))),
        pipeline.first_usable(source, GIVEN, 2),
    ]
    for batch in batches:
        (shown,) = batch.examples
        assert labels(shown) == ["cup7", "cup8", "cup9"] and shown.answer_ids is None
        text = T.decode(batch.prompt.token_bp[0][batch.prompt.mask_bp[0]])
        assert '"more":7}' in text and "cup9" in text and "cup0" not in text
        np.testing.assert_array_equal(shown.target.mask, example.target.mask)
    (batch,) = itertools.islice(pipeline.evaluation_batches(source, POLICY, 1, 1), 1)
    assert labels(batch.examples[0]) == ["cup0", "cup8", "cup9"]
    with pytest.raises(
        prompts.PromptError, match="nothing to imitate; 7 objects of the picture are left out: raise data"
    ):
        pipeline.demonstration(shown, GIVEN, 100)


def test_a_count_is_not_that_of_the_twin(tmp_path):
    """The right answer is ten; the twin has three cups and says that there are seven more."""
    source = opened(tmp_path, "a", task="vqa", answers=["10"])
    batch = next(iter(pipeline.annotated_demonstrations(source, GIVEN, 1, seed=0, length=100)))
    assert '"more":7}' in T.decode(batch.prompt.token_bp[0][batch.prompt.mask_bp[0]])
    few = dataclasses.replace(source[0], hidden_objects=0)
    fields, _, _ = prompts.prompt(few, GIVEN)
    assert "more" not in T.decode(fields["token_bp"][fields["mask_bp"]])


def test_parts_of_a_mixture_are_free_of_the_truth_and_named_as_before(tmp_path):
    parts = tuple(opened(tmp_path, name, boxes=[CUPS[0]["box"]]) for name in ("a", "b"))
    both = mixture.Mixture(parts, (1.0, 1.0))
    free = sources.truth_free(both)
    assert labels(both[0])[0] == "cup0" and all(labels(free[k])[0] == "cup7" for k in range(2))
    assert repr(free) == repr(both) and sources.truth_free((1, 2)) == (1, 2)


def test_the_check_looks_at_the_twins_that_are_shown(tmp_path):
    source = opened(tmp_path, "a", boxes=[CUPS[0]["box"]])
    for style, first in ((GIVEN, "cup7"), (POLICY, "cup0")):
        part = inspection.inspect(source, style, sample=2, seconds=60.0, shown=1)
        assert labels(part.shown[0])[0] == first and part.facts["cut_scenes"] == 2
