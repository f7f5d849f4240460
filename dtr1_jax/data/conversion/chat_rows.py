"""Rows of conversations: LLaVA and ShareGPT (`conversations`), ms-swift and chat APIs (`messages`).

    {"image": "1.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhere is it?"}, {"from": "gpt", ...}]}
    {"messages": [{"role": "user", "content": "<image>Locate <ref-object>"},
                  {"role": "assistant", "content": "<bbox>"}],
     "images": ["1.jpg"], "objects": {"ref": ["mug"], "bbox": [[66, 130, 122, 162]], "bbox_type": "real"}}

Each question with its answer becomes a Sample. Sources: haotian-liu/LLaVA docs/Finetune_Custom_Data.md;
modelscope/ms-swift docs, "Custom dataset", grounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.conversion import box_texts
from dtr1_jax.data.conversion.samples import Box, LeftOut, Sample, Tally

SHORT = 12  # words; a longer answer is compared as a text (summary), not as an answer of vqa
ASKERS = {"human", "user"}
ANSWERERS = {"gpt", "assistant", "bard", "chatgpt", "model", "bot", "claude", "qwen"}
_PICTURE_KEYS = ("image", "images", "image_path", "image_paths", "img", "image_file", "file_name")
_VIDEO_KEYS = ("video", "videos", "video_path")
_PLACES = re.compile(r"</?image(?:_\d+)?>|<video>|<\|vision_start\|>.*?<\|vision_end\|>|<img>.*?</img>", re.DOTALL)
_PLEASE = re.compile(
    r"please provide (?:the|a) bounding box coordinates? (?:of|for) the (?:region|object) (?:that )?"
    r"this (?:sentence|text) describes?\s*:?\s*",
    re.IGNORECASE,
)
_FORMATS = re.compile(  # demands on the form of the answer, which our own prompt states
    r"\s*(?:(?:first )?output the thinking process in <think>.*|"
    r"(?:please )?(?:output|return|answer with|provide|give|report) [^.?!]*?\b(?:json|bbox_2d|<answer>)[^.?!]*[.?!]?"
    r"|please answer the question (?:with|using) a single word or phrase\.?"
    r"|answer the question using a single word or phrase\.?)\s*$",
    re.IGNORECASE | re.DOTALL,
)


def samples(place: str, row: Mapping[str, Any], tally: Tally) -> Iterator[Sample]:
    """The queries of a row of conversations. Adds turns that are left out to `tally`; raises LeftOut for the row."""
    turns = _turns(row)
    pictures, video = pictures_of(row), video_of(row)
    inline = [part for _, _, parts in turns for part in parts]
    pictures = pictures or tuple(inline)
    if not pictures and video is None:
        raise LeftOut("rows without a picture", place)
    check_places(" ".join(text for role, text, _ in turns if role in ASKERS), pictures)
    asked: str | None = None
    given = _Objects(row)
    for role, text, _ in turns:
        if role in ASKERS:
            if asked is not None:
                tally.add("questions without an answer", place)
            asked = text
        elif role in ANSWERERS and asked is not None:
            try:
                yield _sample(place, row, asked, text, pictures, video, given)
            except LeftOut as reason:
                tally.add(str(reason), reason.example or place)
            asked = None
    if asked is not None:
        tally.add("questions without an answer", place)


def check_places(text: str, pictures: tuple[Any, ...]) -> None:
    """Raises LeftOut for a question that names more pictures than its row has: nobody knows which are missing."""
    if pictures and text.count("<image>") > len(pictures):
        raise LeftOut("rows with more <image> than pictures", f"{text.count('<image>')} for {len(pictures)}")


def query_text(text: str) -> str:
    """A question without the places of pictures and without demands on the form of the answer."""
    plain = _PLACES.sub(" ", text)
    plain = _PLEASE.sub("", plain)
    return " ".join(_FORMATS.sub("", plain).split())


def target_of(answer: str) -> dict[str, Any]:
    """The fields of a Sample that an answer in words or with boxes gives. Raises LeftOut."""
    found = box_texts.parse(answer)
    if found is not None:
        if not box_texts.is_pointing(found):
            raise LeftOut("answers with boxes between the words (grounded captions)", answer[:60])
        return {"boxes": found.boxes, "notation": found.notation}
    plain = clean_answer(answer)
    if not plain:
        raise LeftOut("answers that are empty")
    return {"answers": (plain,), "task": "vqa" if len(plain.split()) <= SHORT else "summary"}


def clean_answer(answer: str) -> str:
    """An answer in words without thought, tags, places of pictures and \\boxed{}."""
    plain = re.sub(r"<think>.*?</think>", " ", answer, flags=re.DOTALL | re.IGNORECASE)
    plain = _PLACES.sub(" ", plain)
    if match := re.search(r"<answer>(.*?)</answer>", plain, re.DOTALL | re.IGNORECASE):
        plain = match[1]
    if match := re.search(r"\\boxed\{([^{}]*)\}", plain):
        plain = match[1]
    return " ".join(plain.replace("$", " ").split()) if plain.count("$") == 2 else " ".join(plain.split())


def pictures_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The references to the pictures of a row; () if it has none."""
    for key in _PICTURE_KEYS:
        value = row.get(key)
        if value:
            return tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return ()


def video_of(row: Mapping[str, Any]) -> str | None:
    """The path of the video of a row. Raises LeftOut for several videos and for one that stands inside the file."""
    value = next((row[key] for key in _VIDEO_KEYS if row.get(key)), None)
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise LeftOut("rows with several videos")
        value = value[0]
    if isinstance(value, dict):
        value = value.get("video") or value.get("path")
    if value is not None and not isinstance(value, str):
        raise LeftOut("videos inside the file (save them as files)")
    return value


def stated_size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """(w, h) of the picture that a row states, pixels; None if it states none."""
    for w, h in (("width", "height"), ("img_width", "img_height"), ("image_width", "image_height")):
        values = (row.get(w), row.get(h))
        values = tuple(v[0] if isinstance(v, list) and len(v) == 1 else v for v in values)
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) and v >= 1 for v in values):
            return int(values[0]), int(values[1])
    return None


def _turns(row: Mapping[str, Any]) -> list[tuple[str, str, list[Any]]]:
    """(role, text, pictures in it) of each turn. Raises LeftOut."""
    value = row.get("conversations", row.get("messages", row.get("conversation")))
    if value is None and "query" in row:  # ms-swift's old form
        history = [text for pair in row.get("history") or () for text in pair]
        texts = [*history, row.get("query"), row.get("response")]
        value = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    if isinstance(value, str):  # a column of text in a table
        try:
            value = json_files.parse_json(value.encode("utf-8", "surrogatepass"))
        except ValueError:
            raise LeftOut("rows whose conversation is no list of turns", value[:40]) from None
    if not isinstance(value, (list, tuple)) or not all(isinstance(turn, dict) for turn in value) or not value:
        raise LeftOut("rows whose conversation is no list of turns")
    turns = []
    for turn in value:
        role = str(turn.get("from", turn.get("role", ""))).casefold().strip()
        content = turn.get("value", turn.get("content"))
        parts: list[Any] = []
        if isinstance(content, (list, tuple)):
            parts = [part.get("image_url", part.get("image")) for part in content if isinstance(part, dict)]
            parts = [part for part in parts if part]
            content = " ".join(str(p.get("text", "")) for p in content if isinstance(p, dict) and p.get("text"))
        content = f"{content:g}" if type(content) in (int, float) else content
        if role in ASKERS | ANSWERERS and not isinstance(content, str):
            raise LeftOut("rows with turns without a text", role)
        if role in ASKERS | ANSWERERS:
            turns.append((role, content, parts))
        elif role not in ("system", "tool", "observation", "function", "tool_response"):
            raise LeftOut("rows with turns of unknown speakers", role or content)
    return turns


class _Objects:
    """The objects of a row of ms-swift: each `<bbox>` and `<ref-object>` in the texts is the next of them."""

    def __init__(self, row: Mapping[str, Any]):
        value = row.get("objects")
        if isinstance(value, str):
            try:
                value = json_files.parse_json(value.encode("utf-8", "surrogatepass"))
            except ValueError:
                raise LeftOut("rows whose objects are no JSON", value[:40]) from None
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = _listed_objects(value)
        self.present = isinstance(value, dict) and isinstance(value.get("bbox"), (list, tuple))
        value = value if isinstance(value, dict) else {}
        self.boxes = list(value.get("bbox") or ())
        self.labels = [str(label) for label in value.get("ref") or value.get("label") or ()]
        kind = value.get("bbox_type", row.get("bbox_type", "real"))
        self.notation = {"norm1": "ms-swift norm1", "norm1000": "ms-swift norm1000"}.get(str(kind), "ms-swift")

    def fill(self, text: str) -> str:
        """The text with its places for labels filled."""
        return re.sub(r"<ref-object>", lambda _: self.labels.pop(0) if self.labels else "object", text)

    def take(self, count: int) -> tuple[Box, ...]:
        """The next boxes. Raises LeftOut."""
        taken, self.boxes = self.boxes[:count], self.boxes[count:]
        if len(taken) < count:
            raise LeftOut("rows with more <bbox> than boxes")
        if not all(map(box_texts.is_box, taken)):
            raise LeftOut("rows with points or shapes in place of boxes", str(taken)[:40])
        return tuple(tuple(float(v) for v in box) for box in taken)  # type: ignore[misc]


def _listed_objects(items: list[dict]) -> dict[str, Any]:
    """The objects of ms-swift 2, [{"caption": "mug", "bbox": [...], "bbox_type": "real"}, ...], as those of 3."""
    boxes, labels = [], []
    for item in items:
        box = item.get("bbox")
        several = isinstance(box, list) and bool(box) and all(isinstance(part, list) for part in box)
        boxes += box if several else [box]
        labels += [item.get("caption", item.get("label", "object"))]
    return {"bbox": boxes, "ref": labels, "bbox_type": items[0].get("bbox_type", "real")}


def _sample(
    place: str, row: Mapping[str, Any], asked: str, text: str, pictures: tuple, video: str | None, given: _Objects
) -> Sample:
    if given.present and "<bbox>" in asked:
        given.take(asked.count("<bbox>"))
        given.fill(asked)
        raise LeftOut("questions that hold coordinates (captions of regions)", place)
    if not given.present and "<bbox>" in text:
        raise LeftOut("rows with more <bbox> than boxes", place)
    asked = given.fill(asked) if given.present else asked
    target: dict[str, Any]
    if given.present and "<bbox>" in text:
        target = {"boxes": given.take(text.count("<bbox>")), "notation": given.notation}
        words = re.findall(r"\w+", re.sub(r"<bbox>|<ref-object>", " ", text))
        given.fill(text)
        if len(words) > box_texts.WORDS_BESIDE:
            raise LeftOut("answers with boxes between the words (grounded captions)", text[:60])
    else:
        target = target_of(text)
    query = query_text(asked)
    if not query:
        raise LeftOut("questions that are empty", place)
    if box_texts.has_boxes(query):
        raise LeftOut("questions that hold coordinates (captions of regions)", place)
    if video is not None and "boxes" in target:
        raise LeftOut("boxes in a video without the number of their frame", place)
    split = row.get("split")
    return Sample(
        place, pictures, query, stated=stated_size(row), video=video, split=split if isinstance(split, str) else None,
        **target,
    )  # fmt: skip
