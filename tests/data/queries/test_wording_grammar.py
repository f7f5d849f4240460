"""The language of TwinWorld's queries, read by a grammar of its own (tests/query_grammar.py)."""

import numpy as np
import pytest
from query_grammar import faults

from dtr1_jax.data.queries import pointing, questions, summaries, temporal
from dtr1_jax.data.twinworld import picture_examples, scenes, video_scenes

CELLS = tuple(pointing.KINDS)
SCENES = 80  # each is asked about 36 times a task


@pytest.fixture(scope="module")
def queries():
    """(task, question or query) of all tasks, splits and of pictures and videos."""
    result = []
    for seed in range(SCENES):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(2, 6))
        picture = scenes.picture_instances(scenes.sample_picture_scene(rng, "train", count + 2, 96))
        video = video_scenes.video_instances(video_scenes.sample_video_scene(rng, "train", count, 96, 6))
        for split in 6 * picture_examples.SPLITS:
            for scene in (picture, video):
                answers = picture_examples.sample_answer_count(rng)
                if scene is video:
                    query = temporal.sample_temporal_query(rng, split, scene, int(rng.integers(1, 5)), answers)
                else:
                    query = pointing.sample_query(rng, split, scene, *CELLS[rng.integers(len(CELLS))], answers)
                result.append(("segmentation", query))
                for task, sample in (("vqa", questions.sample_question), ("summary", summaries.sample_summary)):
                    result.append((task, sample(rng, split, scene, video=scene is video)))
    return [(task, query) for task, query in result if query is not None]


def test_every_query_is_good_english_in_the_form_of_its_answer(queries):
    found = {}
    for task, query in queries:
        answers, count = (query.answers, None) if task == "vqa" else ((), len(getattr(query, "ids", ())))
        if bad := faults(query.text, task, answers, count):
            found[query.text] = bad
    assert len(queries) > 7000 and not found, list(found.items())[:5]


def test_whoever_has_not_seen_the_picture_cannot_answer(queries):
    """Not what tells the time, how many there are of what appears twice, or whether the most common colour appears."""
    topics = set()
    for program in (query.program for task, query in queries if task == "vqa"):
        topic, objects = program[:2]
        topics.add(topic)
        assert (topic, objects[0]) not in (("any", "most common"), ("number", "twice")), program
        while topic == "name" and isinstance(objects, tuple) and len(objects) > 1:
            assert objects[0] != "label" or len(objects) > 2, program
            assert objects[0] != "both" or all(part[0] != "label" or len(part) > 2 for part in objects[1:]), program
            objects = objects[1]
    assert topics == {"number", "any", "name", "which word", "whether it moves", "direction"}


@pytest.mark.parametrize(
    ("query", "task", "fault"),
    [
        ("what is the red thing?", "segmentation", "form"),
        ("what place has every thing you can wear?", "segmentation", "form"),
        ("how do we cross the lake?", "segmentation", "form"),
        ("is the thing that swims in view?", "segmentation", "form"),
        ("find the red thing.", "vqa", "form"),
        ("which one is the red thing?", "vqa", "form"),
        ("where is the red thing?", "summary", "form"),
        ("show me each thing that cut paper.", "segmentation", "begins with 'cut'"),
        ("mark any object that trims and snip.", "segmentation", "trims ... and snip"),
        ("find the thing you drives.", "segmentation", "you drives"),
        ("say what colour the thing which has the material that the mug has has.", "vqa", "doubled: has"),
        ("what is the other thing made of what the mug is made of made of?", "vqa", "twice: made of"),
        ("which colour does the thing, the leftmost one have?", "vqa", "no comma"),
        ("which one is the red thing?", "segmentation", "singular for several"),
    ],
)
def test_the_grammar_finds_faults(query, task, fault):
    assert any(fault in found for found in faults(query, task, (), 2)), faults(query, task, (), 2)


def test_the_grammar_finds_answers_that_the_question_gives_away():
    for query, answers in (
        ("count every thing with two blades.", ("2", "two")),
        ("which colour is the orange thing?", ("orange",)),
        ("is the small thing small or large?", ("small",)),
        ("which way is the thing that goes up going?", ("up", "upwards")),
    ):
        assert any("gives away" in found for found in faults(query, "vqa", answers)), query
    assert not faults("is the red thing small or large?", "vqa", ("small",))
