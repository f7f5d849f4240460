"""What the reward pays for false twins and lazy answers: mean total reward of transcripts that are written by rule.

    python experiments/hacking.py [--config=configs/unified.py] [--n=48]

Each kind changes the oracle's transcript of held-out TwinWorld queries in one way. A reward that cannot be fooled pays
the oracle most, and every untrue twin much less. Videos have rows of their own, such as "vqa_video". The last line is
one JSON object: task -> kind -> mean total reward.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dtr1_jax import config
from dtr1_jax.data import demonstrations
from dtr1_jax.data.queries.attributes import COLOURS
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.policies import runtime
from dtr1_jax.rewards import score
from dtr1_jax.rewards.answer_regions import SegmentFn
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.types import POINTING, TASKS, Example

Parts = tuple[Twin, str, Answer]  # twin, thought and answer of one transcript
_NEXT_COLOUR = dict(zip(COLOURS, (*COLOURS[1:], COLOURS[0])))
_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "top": "bottom", "bottom": "top"}
_GRID = 4  # cells a side
_WIDER = 0.5  # share of a side by which a box grows on each of its sides


def junk_labels(parts: Parts, _: Example) -> Parts:
    """All labels are wrong and there are no attributes."""
    return _with_objects(parts, [dataclasses.replace(o, label="thing", attributes=()) for o in parts[0].objects])


def empty_thought(parts: Parts, _: Example) -> Parts:
    """The true twin and the right answer without a thought."""
    return parts[0], "", parts[2]


def answered_objects_only(parts: Parts, example: Example) -> Parts:
    """The twin has the objects of the answer alone; for answers in words, the first of the thought's last list."""
    ids = example.answer_ids
    if ids is None:
        lists = [re.findall(r"\b\d+\b", step) for step in example.thought.split(".")]
        ids = tuple(int(i) for i in next((x for x in reversed(lists) if x), ()))[:1]
    return _with_objects(parts, [o for o in parts[0].objects if o.id in ids])


def empty_twin(parts: Parts, _: Example) -> Parts:
    """No objects; the answer is as right as it can be without ids."""
    return _with_objects(parts, [])


def nothing(parts: Parts, example: Example) -> Parts:
    """The true twin, and "nothing" as the answer."""
    if example.task in POINTING:
        return parts[0], parts[1], Answer(objects=())
    return parts[0], parts[1], Answer(text="there is no such thing." if example.task == "summary" else "nothing")


def everything(parts: Parts, example: Example) -> Parts:
    """The true twin, and all objects, or all words that could be right, as the answer."""
    if example.task in POINTING:
        return parts[0], parts[1], Answer(objects=tuple(o.id for o in parts[0].objects))
    words = ["yes", "no", *map(str, range(8)), *COLOURS, *(o.label for o in parts[0].objects)]
    if example.task == "summary":
        words = [f"a {colour} {o.label} on the left" for o in parts[0].objects for colour in COLOURS]
    return parts[0], parts[1], Answer(text=", ".join(words))


def whole_picture(parts: Parts, example: Example) -> Parts:
    """One object that covers the whole picture, which is the answer."""
    return _stand_in(parts, example, [(0, 0, 1, 1)], lambda box: True)


def grid(parts: Parts, example: Example) -> Parts:
    """Cells of a grid as objects; the answer is the cells whose centres lie in boxes of the target."""

    def wanted(box):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        return any(b[0] <= x <= b[2] and b[1] <= y <= b[3] for b in example.target.boxes)

    edges = [i / _GRID for i in range(_GRID + 1)]
    cells = [(x, y, x + 1 / _GRID, y + 1 / _GRID) for y in edges[:-1] for x in edges[:-1]]
    return _stand_in(parts, example, cells, wanted)


def doubled(parts: Parts, example: Example) -> Parts:
    """Every object stands in the twin twice, and the answer has both."""
    twin, thought, answer = parts
    shift = max((o.id for o in twin.objects), default=0)
    twins = [*twin.objects, *(dataclasses.replace(o, id=o.id + shift) for o in twin.objects)]
    if answer.objects is not None:
        answer = Answer(objects=(*answer.objects, *(i + shift for i in answer.objects)))
    elif answer.boxes is not None:
        answer = Answer(boxes=answer.boxes * 2)
    return _with_objects((twin, thought, answer), twins)


def wide_boxes(parts: Parts, example: Example) -> Parts:
    """Every box is twice as wide and high, as far as the picture goes, in the answer too."""
    twin, thought, answer = parts
    limit = twin.size

    def wide(box):
        (x1, y1, x2, y2), (w, h) = box, limit
        dx, dy = round((x2 - x1) * _WIDER), round((y2 - y1) * _WIDER)
        return max(x1 - dx, 0), max(y1 - dy, 0), min(x2 + dx, w), min(y2 + dy, h)

    objects = [
        dataclasses.replace(o, box=o.box and wide(o.box), track=tuple((t, b and wide(b)) for t, b in o.track))
        for o in twin.objects
    ]
    if answer.boxes is not None:
        answer = Answer(boxes=tuple(map(wide, answer.boxes)))
    return _with_objects((twin, thought, answer), objects)


def wrong_colours(parts: Parts, _: Example) -> Parts:
    """A summary with another colour in place of each."""
    return _with_text(parts, re.sub("|".join(COLOURS), lambda m: _NEXT_COLOUR[m[0]], parts[2].text or ""))


def flipped(parts: Parts, _: Example) -> Parts:
    """A summary with left and right, up and down changed."""
    return _with_text(parts, re.sub(r"\b(?:" + "|".join(_OPPOSITE) + r")\b", lambda m: _OPPOSITE[m[0]], parts[2].text))


def constant(parts: Parts, _: Example) -> Parts:
    """The same sentence for every picture."""
    return _with_text(parts, "there is one thing: a small red metal mug on the left.")


EVERY_TASK: tuple[Callable[[Parts, Example], Parts], ...] = (
    empty_thought, junk_labels, answered_objects_only, empty_twin, nothing, everything, whole_picture, grid, doubled,
    wide_boxes,
)  # fmt: skip
SUMMARIES = (wrong_colours, flipped, constant)


def _with_objects(parts: Parts, objects: Sequence[Object]) -> Parts:
    """The parts with these objects in the twin; ids of the answer that are gone from the twin are left out."""
    twin, thought, answer = parts
    if answer.objects is not None:
        answer = Answer(objects=tuple(i for i in answer.objects if i in {o.id for o in objects}))
    return dataclasses.replace(twin, objects=tuple(objects), relations=()), thought, answer


def _with_text(parts: Parts, text: str) -> Parts:
    return parts[0], parts[1], Answer(text=text)


def _stand_in(parts: Parts, example: Example, boxes, wanted) -> Parts:
    """A twin of these boxes (unit frame) as still objects; those that are wanted are the answer to a pointing query."""
    twin, thought, answer = parts
    w, h = twin.size
    cells = [(round(x1 * w), round(y1 * h), round(x2 * w), round(y2 * h)) for x1, y1, x2, y2 in boxes]
    objects = [Object(i, "thing", cell, 1) for i, cell in enumerate(cells, 1)]
    if example.task in POINTING:
        answer = Answer(objects=tuple(o.id for o, box in zip(objects, boxes) if wanted(box)))
    return dataclasses.replace(twin, objects=tuple(objects), relations=()), thought, answer


def held_out(task: str, video: bool, n: int) -> list[Example]:
    """The first n held-out queries of a task; summaries are about at least one object, so that facts can be wrong."""
    drawn = (
        tasks.example(task, 0, "heldout", i, video=video, frames=4, max_objects=3 if video else 7)
        for i in itertools.count()
    )
    wanted = (e for e in drawn if task != "summary" or any(colour in e.target.references[0] for colour in COLOURS))
    return list(itertools.islice(wanted, n))


def rewards_of(
    task: str, video: bool, settings: config.Reward, scorers: TextScorers, masks: SegmentFn, n: int
) -> dict[str, float]:
    """kind -> mean total reward over n held-out queries of a task."""
    examples = held_out(task, video, n)
    canvases = [
        Canvas(Frame.PIXEL, e.image.shape[1::-1], tuple(map(int, e.video.index)) if e.video else ()) for e in examples
    ]
    oracles = []
    for example, canvas in zip(examples, canvases):
        parsed = transcript.parse(demonstrations.oracle(example, canvas), task=task, canvas=canvas)
        assert parsed.sound and parsed.twin and parsed.answer, example.uid
        oracles.append((parsed.twin, parsed.thought, parsed.answer))
    kinds = {"oracle": oracles}
    for change in EVERY_TASK + (SUMMARIES if task == "summary" else ()):
        kinds[change.__name__] = [change(parts, example) for parts, example in zip(oracles, examples)]
    if task == "summary":
        others = [*oracles[1:], oracles[0]]
        kinds["other_picture"] = [_with_text(a, b[2].text or "") for a, b in zip(oracles, others)]
    groups = [
        [transcript.parse(transcript.compose(*parts[i]), task=task, canvas=canvas) for parts in kinds.values()]
        for i, canvas in enumerate(canvases)
    ]
    tokens_bg = np.array([[len(t.text) // 4 for t in group] for group in groups])
    rewards, _ = score.score(groups, examples, canvases, masks, settings, scorers, tokens_bg)
    return {kind: round(float(mean), 4) for kind, mean in zip(kinds, np.asarray(rewards.total_bg).mean(0))}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table and its JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).parents[1]
    parser.add_argument("--config", type=Path, default=root / "configs" / "default.py", help="its reward is measured")
    parser.add_argument("--n", type=int, default=48, help="held-out queries of each task, pictures and videos each")
    args = parser.parse_args(argv)
    spec = importlib.util.spec_from_file_location("settings", args.config)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--config: expected a Python file, got {args.config}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    c = config.from_configdict(module.get_config())
    score.check_weights(c.reward.weights)
    table = {}
    with runtime.host_tools(c) as (masks, scorers, _):
        for task in TASKS:
            for video in (False, True):
                name = f"{task}_video" if video else task
                table[name] = rewards_of(task, video, c.reward, scorers, masks, args.n)
    kinds = list(table["summary"])
    print("| kind | " + " | ".join(table) + " |\n|---|" + "---|" * len(table))
    for kind in kinds:
        cells = [f"{row[kind]:.2f}" if kind in row else "" for row in table.values()]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
