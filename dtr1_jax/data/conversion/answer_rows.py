"""Rows of a question with an answer: VLM-R1, EasyR1, verl, TRL, Seg-Zero and Hugging Face's data sets.

    {"image": "1.jpg", "problem": "the mug", "solution": [66, 130, 122, 162]}                            VLM-R1
    {"images": [{"bytes": ...}], "problem": "<image>How many?", "answer": "2"}                           EasyR1
    {"images": [...], "prompt": [{"role": "user", "content": ...}], "reward_model": {"ground_truth": "2"}}  verl
    {"image": ..., "objects": {"bbox": [[x, y, w, h]], "category": [0]}}                                 Hugging Face

Sources: om-ai-lab/VLM-R1 README and its jsonl loader; hiyouga/EasyR1 README, "Custom dataset"; volcengine/verl docs,
"Prepare data"; huggingface.co/docs/datasets/object_detection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dtr1_jax.data.conversion import box_texts, chat_rows
from dtr1_jax.data.conversion.samples import Box, LeftOut, Sample, Tally
from dtr1_jax.data.queries import label_phrases
from dtr1_jax.twin import masks

QUESTIONS = ("problem", "question", "query", "instruction", "text", "expression", "sentence", "prompt")
ANSWERS = ("solution", "answer", "answers", "response", "output", "completion", "ground_truth", "label", "target")
NUMBERS = ("correct_choice_idx", "answer_index", "answer_idx")  # of the right choice, from 0 on
CHOICES = ("choices", "options", "candidates")
BOXES = {"bbox": "bbox", "bboxes": "bbox", "boxes": "bbox", "bbox_2d": "bbox_2d"}


def samples(place: str, row: Mapping[str, Any], tally: Tally) -> Iterator[Sample]:
    """The queries of a row with a question and its answer. Raises LeftOut for a row that gives none."""
    del tally
    pictures, video = chat_rows.pictures_of(row), chat_rows.video_of(row)
    if not pictures and video is None:
        raise LeftOut("rows without a picture", place)
    question = _question(row)
    chat_rows.check_places(question, pictures)
    query = chat_rows.query_text(question)
    if not query:
        raise LeftOut("questions that are empty", place)
    split = row.get("split")
    fixed: dict[str, Any] = {
        "stated": chat_rows.stated_size(row), "video": video, "split": split if isinstance(split, str) else None,
    }  # fmt: skip
    target = _target(row)
    if video is not None and not target.get("answers"):
        raise LeftOut("boxes in a video without the number of their frame", place)
    yield Sample(place, pictures, query, **fixed, **target)


def detection_samples(place: str, row: Mapping[str, Any], names: Mapping[int, str]) -> Iterator[Sample]:
    """A query for each label of a row of Hugging Face's object detection.

    Args:
      place: for messages.
      row: with `objects`, a dict of lists or a list of dicts.
      names: label by number, from the file's own metadata.

    Raises LeftOut.
    """
    pictures = chat_rows.pictures_of(row)
    value = row.get("objects")
    if isinstance(value, list):
        value = {key: [item.get(key) for item in value] for key in (value[0] if value else ())}
    boxes = value.get("bbox") if isinstance(value, dict) else None
    labels = (
        next((value[k] for k in ("category", "label", "categories", "labels", "category_id") if k in value), None)
        if isinstance(value, dict)
        else None
    )
    if not pictures or not isinstance(boxes, list) or not isinstance(labels, list) or len(labels) != len(boxes):
        raise LeftOut("rows without a picture, or with other numbers of boxes and labels", place)
    if not all(map(box_texts.is_box, boxes)):
        raise LeftOut("rows with a box that is not four numbers", place)
    words = [names.get(label) if isinstance(label, int) else label for label in labels]
    if not all(isinstance(word, str) and word.strip() for word in words):
        raise LeftOut("labels that are numbers without a name (write the names of the labels)", str(labels)[:40])
    objects = tuple((str(word), tuple(float(v) for v in box)) for word, box in zip(words, boxes))
    if not objects:
        raise LeftOut("pictures without an object", place)
    yield from label_samples(place, pictures, objects, "objects.bbox", chat_rows.stated_size(row))


def label_samples(
    place: str, pictures: tuple, objects: tuple[tuple[str, Box], ...], notation: str,
    stated: tuple[int, int] | None, split: str | None = None,
) -> Iterator[Sample]:  # fmt: skip
    """A query for each label of a picture whose objects are annotated; "mug" and "Mugs" are one, see `query_of`."""
    for query in dict.fromkeys(query_of(label) for label, _ in objects):
        target = tuple(box for name, box in objects if query_of(name) == query)
        yield Sample(
            place, pictures, query, notation=notation, boxes=target, objects=objects, stated=stated, split=split
        )


def query_of(label: str) -> str:
    """The query for all objects of a label, "Find every mug."."""
    return f"Find every {label_phrases.phrase(label)}."


def _question(row: Mapping[str, Any]) -> str:
    for key in QUESTIONS:
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):  # verl and TRL: chat turns
            asked = [t for t in value if str(t.get("role", "")).casefold() in chat_rows.ASKERS]
            if len(asked) != 1:
                raise LeftOut("prompts of several turns", str(len(asked)))
            content = asked[0].get("content")
            if isinstance(content, list):
                content = " ".join(str(p.get("text") or "") for p in content if isinstance(p, dict))
            return str(content)
        if isinstance(value, list) and value and isinstance(value[0], str):
            return value[0]
    raise LeftOut("rows without a question")


def _target(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Sample that the answer of a row gives. Raises LeftOut."""
    if row.get("mask") is not None:
        return _mask(row["mask"])
    if choices := next((row[key] for key in CHOICES if row.get(key)), None):
        right = next((row[key] for key in (*NUMBERS, *ANSWERS) if row.get(key) is not None), None)
        return _chosen(_options(_parsed(choices)), right)
    for key, notation in BOXES.items():
        if row.get(key) is not None and not isinstance(row.get("solution"), (list, str)):
            found = box_texts.boxes_of_json(_parsed(row[key]))
            if found is None:
                raise LeftOut(f"rows whose {key} is no list of boxes", str(row[key])[:40])
            return {"boxes": found.boxes, "notation": notation if found.notation == "brackets" else found.notation}
    model = _parsed(row.get("reward_model"))
    value: Any = model.get("ground_truth") if isinstance(model, dict) else None
    source = "reward_model"
    if value is None:
        source = next((key for key in ANSWERS if row.get(key) is not None), "")
        value = row.get(source)
    if value is None:
        raise LeftOut("rows without an answer")
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict) and "content" in value[0]:
        value = value[-1]["content"]
    return _answer(value, source)


def _answer(value: Any, source: str) -> dict[str, Any]:
    parsed = _parsed(value)
    if isinstance(parsed, (list, dict)):
        found = box_texts.boxes_of_json(parsed)
        if found is not None and (found.boxes or source == "solution"):
            brackets = "solution" if source == "solution" else "brackets"
            return {"boxes": found.boxes, "notation": brackets if found.notation == "brackets" else found.notation}
        if isinstance(parsed, list) and parsed and all(isinstance(v, str) and v.strip() for v in parsed):
            return {"answers": tuple(dict.fromkeys(" ".join(v.split()) for v in parsed))[:64], "task": "vqa"}
        if isinstance(parsed, list) and parsed and all(isinstance(v, dict) and "answer" in v for v in parsed):
            return _answer([v["answer"] for v in parsed], source)  # as VQAv2 has the answers of several people
    if isinstance(value, str):
        target = chat_rows.target_of(value)
        if source == "solution" and target.get("notation") == "brackets":
            target["notation"] = "solution"
        return target
    if isinstance(value, bool):
        return {"answers": ("yes" if value else "no",), "task": "vqa"}
    if isinstance(value, (int, float)):
        return {"answers": (f"{value:g}" if isinstance(value, float) else str(value),), "task": "vqa"}
    raise LeftOut("answers that are neither words nor boxes", str(value)[:40])


def _options(value: Any) -> dict[str, str]:
    """Letter -> words of the choices of a question. Raises LeftOut."""
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # Hugging Face: a list of each column
        value = value["text"]
    if isinstance(value, list):
        value = {chr(ord("A") + i): option for i, option in enumerate(value[:27])}
    sound = isinstance(value, dict) and all(type(v) in (str, int, float) for v in value.values())
    options = {str(k): " ".join(str(v).split()) for k, v in value.items()} if sound else {}
    if not 2 <= len(options) <= 26 or len(set(options.values())) < len(options) or not all(options.values()):
        raise LeftOut("rows whose choices are not 2 to 26 different texts", str(value)[:40])
    return options


def _chosen(options: dict[str, str], value: Any) -> dict[str, Any]:
    """The right choice by its words, its letter or its number from 0 on. Raises LeftOut."""
    words, texts = chat_rows.clean_answer(str(value)), list(options.values())
    found = {words} & set(texts)
    if type(value) is int and 0 <= value < len(texts):
        found.add(texts[value])
    elif letter := re.fullmatch(r"\(?([A-Za-z])[).:]?", words):
        found |= {options[key] for key in (letter[1], letter[1].upper()) if key in options}
    if len(found) > 1:
        raise LeftOut("rows whose answer may be a choice or the number of another one", f"{value}: {texts}")
    if not found:
        raise LeftOut("rows whose answer is none of their choices", f"{value}: {texts}")
    return {"answers": tuple(found), "choices": tuple(texts), "task": "vqa"}


def _parsed(value: Any) -> Any:
    """The value of a text that is JSON; any other value itself."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _mask(value: Any) -> dict[str, Any]:
    """A mask as bool rows, an RLE, or a picture."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        try:
            pixels = np.asarray(value)
        except (ValueError, OverflowError):
            raise LeftOut("masks whose rows have several lengths") from None
        if pixels.ndim != 2 or pixels.dtype.kind not in "biu":
            raise LeftOut("masks that are no rows of pixels", str(pixels.shape))
        rle = masks.encode(pixels.astype(bool))
        return {"masks": ({"size": rle["size"], "counts": rle["counts"].decode()},)}
    if isinstance(value, dict) and "counts" in value and "size" in value:
        return {"masks": (dict(value),)}
    return {"mask": value}
