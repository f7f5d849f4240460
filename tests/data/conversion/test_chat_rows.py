"""Conversations as LLaVA, ShareGPT, ms-swift and chat APIs write them: each quirk is read right or left out by name."""

import json

import pytest

from dtr1_jax.data.conversion import chat_rows
from dtr1_jax.data.json_files import DataError

BOX = [66.0, 130.0, 422.0, 362.0]


def llava(answer, question="<image>\nWhere is the mug?", image="0.png", **more):
    return {"id": "0", "image": image, "conversations": [{"from": "human", "value": question},
            {"from": "gpt", "value": answer}]} | more  # fmt: skip


def swift(answer="<bbox>", question="<image>Locate <ref-object>", box=BOX, images=("0.png",), **objects):
    return {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "images": list(images), "objects": {"ref": ["mug"], "bbox": [box]} | objects,
    }  # fmt: skip


QUIRKS = {  # name -> (row, the line without its picture)
    "json in a fence": (llava('```json\n[{"bbox_2d": [66, 130, 422, 362], "label": "mug"}]\n```'), BOX),
    "box in words": (llava("The mug is at [66, 130, 422, 362]."), BOX),
    "round brackets": (llava("(66, 130, 422, 362)"), BOX),
    "qwen-vl in pixels of a large file": (llava("<ref>mug</ref><box>(66,130),(422,362)</box>"), None),
    "answer tags": (llava("<think>It is there [1, 2, 3, 4].</think><answer>[66, 130, 422, 362]</answer>"), BOX),
    "roles of chat APIs": ({"image": "0.png", "conversations": [{"role": "user", "content": "where is it?"},
        {"role": "assistant", "content": "[66,130,422,362]"}]}, BOX),
    "system turn": ({"image": "0.png", "conversations": [{"from": "system", "value": "You are."},
        {"from": "human", "value": "where"}, {"from": "gpt", "value": "[66,130,422,362]"}]}, BOX),
    "demand on the form": (llava("[66, 130, 422, 362]",
        "<image>Where is the mug? Output the bounding box in JSON format."), BOX),
    "please provide": (llava("[66, 130, 422, 362]", "<image>\nPlease provide the bounding box coordinate of the region "
        "this sentence describes: the mug"), BOX),
    "list of pictures": (llava("[66, 130, 422, 362]", image=["0.png"]), BOX),
    "windows path": (llava("[66, 130, 422, 362]", image=".\\0.png"), BOX),
    "path of another machine": (llava("[66, 130, 422, 362]", image="/data/me/coco/0.png"), BOX),
    "swift": (swift(), BOX),
    "swift in text": (swift("It is here: <bbox>"), BOX),
    "swift picture as an object": (swift(images=[{"bytes": None, "path": "0.png"}]), BOX),
    "swift float text": (swift(box=[66.0, 130.0, 422.0, 362.0]), BOX),
    "swift norm1000": (swift(box=[100, 250, 500, 750], bbox_type="norm1000"), [64.0, 120.0, 320.0, 360.0]),
    "swift norm1": (swift(box=[0.1, 0.25, 0.5, 0.75], bbox_type="norm1"), [64.0, 120.0, 320.0, 360.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIRKS)
def test_boxes(case, name):
    row, box = QUIRKS[name]
    if box is None:  # its values fit pixels and 0 to 1000: the rule of the notation decides
        result = case.rows([row] * 1)
        assert result.boxes == [[[42.24, 62.4, 270.08, 173.76]]] and "0 to 1000" in result.text
        return
    result = case.rows([row], frame="" if "norm" in name or "swift" in name else "pixel")
    assert result.boxes == [[box]] and result.lines[0]["image"] == "../0.png", result.text
    assert "<" not in result.lines[0]["query"] and "ounding box" not in result.lines[0]["query"]
    assert "mug" in result.lines[0]["query"] or name in ("roles of chat APIs", "system turn")


ANSWERS = {  # name -> (row, answer, task)
    "a word": (llava("Red."), "Red.", "vqa"),
    "single word or phrase": (llava("two", "<image>How many?\nAnswer the question using a single word or phrase."),
        "two", "vqa"),
    "boxed": (llava("<think>1 + 1</think> \\boxed{2}"), "2", "vqa"),
    "answer tags": (llava("<answer> a mug </answer>"), "a mug", "vqa"),
    "a description": (llava("A man in a blue shirt sits at a table and drinks tea from a large white mug."), None,
        "summary"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_in_words(case, name):
    row, answer, task = ANSWERS[name]
    (line,) = case.rows([row]).lines
    assert line["task"] == task and line["answers"] == [answer or row["conversations"][1]["value"]]
    assert "single word" not in line["query"] and "boxes" not in line


LEFT_OUT = {  # reason -> row
    "grounded captions": llava("A man [1, 2, 30, 40] in a blue shirt sits at a long old table and drinks hot black tea "
        "from a large white mug [5, 6, 70, 80]."),
    "questions that hold coordinates": llava("a mug", "<image>What is at [10, 20, 300, 400]?"),
    "MiniGPT's notation": llava("{<12><30><45><60>}"),
    "several notations": llava('<box>(1,2),(30,40)</box> {"bbox_2d": [1, 2, 30, 40]}'),
    "addresses on the web": llava("red", image="https://example.com/0.png"),
    "pictures that are not found": llava("red", image="9.png"),
    "rows without a picture": {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    "turns of unknown speakers": {"image": "0.png", "conversations": [{"from": "alien", "value": "?"}]},
    "no list of turns": {"image": "0.png", "conversations": "Where? There."},
    "questions without an answer": {"image": "0.png", "conversations": [{"from": "human", "value": "Where?"}]},
    "answers that are empty": llava("  "),
    "points or shapes in place of boxes": swift(box=[3, 4]),
    "more <bbox> than boxes": swift("<bbox><bbox>"),
    "captions of regions": swift("a mug", "<image>What is at <bbox>?"),
    "several videos": {"videos": ["a.mp4", "b.mp4"], "messages": [{"role": "user", "content": "?"}]},
    "a bbox_2d that is not four numbers": llava('[{"bbox_2d": [1, 2, 3]}]'),
    "questions that are empty": llava("red", "<image>"),
}  # fmt: skip


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_left_out_by_name(case, reason):
    result = case.rows([llava("red"), LEFT_OUT[reason]])
    assert [line["answers"] for line in result.lines] == [["red"]]
    assert any(text.startswith("left out: 1 ") and reason in text for text in result.text.splitlines()), result.text
    with pytest.raises(DataError, match=r"none that can be used: 1 .*"):
        case.rows([LEFT_OUT[reason]])


def test_each_turn_is_a_line(case):
    turns = [("What is it?", "a mug"), ("What colour?", "red"), ("Where?", "[66, 130, 422, 362]")]
    row = {"image": "0.png", "conversations": [
        {"from": role, "value": text} for pair in turns for role, text in zip(("human", "gpt"), pair)]}  # fmt: skip
    result = case.rows([row], "data.json", frame="pixel")
    assert [line["query"] for line in result.lines] == [question for question, _ in turns]
    assert result.lines[2]["boxes"] == [BOX] and "1 with boxes" in result.text and "2 with answers" in result.text


def test_openai_parts_and_a_picture_inside(case):
    content = [{"type": "image_url", "image_url": {"url": "0.png"}}, {"type": "text", "text": "What is it?"}]
    row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a mug"}]}
    (line,) = case.rows([row]).lines
    assert (line["image"], line["query"], line["answers"]) == ("../0.png", "What is it?", ["a mug"])


def test_ms_swifts_old_form_with_a_history(case):
    row = {"query": "And what colour?", "response": "red", "history": [["What is it?", "a mug"]], "images": ["0.png"]}
    lines = case.rows([row | {"query": "<image>And what colour?"}]).lines
    assert [line["answers"] for line in lines] == [["a mug"], ["red"]]


def test_the_next_object_fills_the_next_place():
    row = swift("<ref-object><bbox> and <ref-object><bbox>", "<image>Find both") | {
        "objects": {"ref": ["mug", "cup"], "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    }
    (sample,) = chat_rows.samples("x", json.loads(json.dumps(row)), None)
    assert sample.boxes == ((1, 2, 3, 4), (5, 6, 7, 8)) and sample.query == "Find both"
