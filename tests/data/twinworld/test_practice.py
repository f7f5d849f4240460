"""Practice: drills first, then one exercise for each task in its order."""

import pytest

from dtr1_jax.data.twinworld import drills, picture_examples
from dtr1_jax.data.twinworld.practice import practice

TASKS = ("vqa", "segmentation", "summary", "grounding")


@pytest.mark.parametrize("frames", [0, 6])
def test_drills_come_first_and_then_one_exercise_for_each_task(frames):
    for index in range(10):
        instances, exercises = practice(3, index, 4, TASKS, 2, frames)
        assert len(instances) == 4 and len(exercises) == 2 + len(TASKS)
        assert all(query == drills.TEXT for query, _, _ in exercises[:2])
        for task, (query, thought, answer) in zip(TASKS, exercises[2:]):
            assert query and thought.endswith(".") and query != drills.TEXT
            in_words = task in ("vqa", "summary")
            assert (answer.text is not None) == in_words and (answer.objects is None) == in_words
            assert in_words or set(answer.objects) <= {instance.id for instance in instances}


def test_practice_is_a_pure_function_with_the_queries_of_its_pictures():
    def queries(seed, tasks):
        return [query for query, _, _ in practice(seed, 0, 4, tasks, 1)[1]]

    assert queries(3, TASKS) == queries(3, TASKS) != queries(4, TASKS)
    pointing = [query.text for query in picture_examples.practice_queries(3, 0, 4, 2, 1)[1]]
    assert queries(3, ("segmentation", "grounding")) == pointing
