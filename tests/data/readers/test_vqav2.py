"""VQAv2: questions with the answers of ten people, by hand; quirks are read or refused by name."""

import json

import pytest
from PIL import Image

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import vqav2

QUESTIONS = [{"image_id": 42, "question": "Is it red?", "question_id": 42000}, {"image_id": 42, "question": "How many?",
             "question_id": 42001}]  # fmt: skip
TEN = [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(["2"] * 9 + ["two"], 1)]
NOTES = [{"question_id": 42001, "image_id": 42, "answer_type": "number", "answers": TEN, "multiple_choice_answer": "2"},
         {"question_id": 42000, "image_id": 42, "answer_type": "yes/no", "answers": TEN[:3]}]  # fmt: skip


def write(root, questions=QUESTIONS, notes=NOTES, inside="", photos="val2014", name="COCO_val2014_000000000042.jpg"):
    (root / inside).mkdir(parents=True, exist_ok=True)
    (root / inside / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({"info": {}, "questions": questions})
    )
    (root / inside / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": notes}))
    (root / photos).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / photos / name)
    return root


def open_source(root, split="val"):
    return vqav2.open_vqav2_source(str(root), split, "vqa")


def test_by_hand(tmp_path, caplog):
    source = open_source(write(tmp_path))
    first, second = source
    assert (first.uid, first.query, first.tags) == ("vqav2/val/42000", "Is it red?", ("yes/no",))
    assert second.target.references == ("2",) * 9 + ("two",) and second.tags == ("number",) and second.task == "vqa"
    assert second.image.shape == (30, 40, 3) and (second.benchmark, len(source)) == ("vqav2", 2)
    assert "2 questions, but the published split has 214354" in caplog.text


@pytest.mark.parametrize(
    "places", [{"inside": "annotations"}, {"inside": "questions"}, {"photos": "images/val2014"},
               {"photos": "train2017", "name": "000000000042.jpg"}, {"photos": "val2017", "name": "000000000042.jpg"}],
)  # fmt: skip
def test_layouts(tmp_path, places):
    assert open_source(write(tmp_path, **places))[0].image.shape == (30, 40, 3)


QUIRKS = [  # (changes of the first question and its annotation, number of queries, words of the warning)
    ({"question_id": "42000"}, {}, 2, ""), ({}, {"question_id": "42000"}, 2, ""), ({"image_id": "42"}, {}, 2, ""),
    ({"image_id": 42.0}, {"answer_type": None}, 2, ""), ({}, {"answers": ["red"] * 10}, 2, ""),
    ({}, {"answers": [{"answer": ""}] * 10}, 2, ""),
    ({"question": " "}, {}, 1, "1 questions without question"), ({"image_id": None}, {}, 1, "1 questions without"),
    ({"question_id": 5}, {}, 1, "1 questions without answers (such as 5)"),
    ({}, {"answers": None}, 1, "1 annotations without question_id or answers (such as 42000)"),
    ({}, {"answers": []}, 1, "1 annotations without"), ({}, {"answers": [{"answer": 3}]}, 1, "1 annotations without"),
    ({}, {"answers": ["x"] * 65}, 1, "1 annotations without"), ({}, {"question_id": None}, 1, "1 annotations without"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, caplog, number):
    question, note, count, warning = QUIRKS[number]
    source = open_source(write(tmp_path, [QUESTIONS[0] | question, QUESTIONS[1]], [NOTES[0], NOTES[1] | note]))
    assert len(source) == count and warning in caplog.text and ("left out" in caplog.text) == bool(warning)
    assert all(example.image.shape == (30, 40, 3) for example in source)


def test_refusals(tmp_path):
    with pytest.raises(DataError, match="vqav2 test-dev has no answers; set"):
        open_source(tmp_path, "test-dev")
    with pytest.raises(DataError, match=r"expected v2_OpenEnded.* got no v2_OpenEnded_mscoco_val2014_questions\.json"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="one of train, val"):
        open_source(tmp_path, "dev")
    (write(tmp_path) / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    with pytest.raises(DataError, match="expected the picture"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="expected queries, got none to use"):
        open_source(write(tmp_path, [3, None]))
