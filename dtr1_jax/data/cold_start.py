"""The batches of the cold start (--mode=sft): demonstrations, practice, and scenes that grow with the steps.

TwinWorld draws its scenes to order. Other sources give the transcripts of their annotated examples in shuffled passes,
without a schedule, the dense loss and the practice, which are about TwinWorld's labels and queries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax

from dtr1_jax.config import Config
from dtr1_jax.data import mixture, pipeline, sources
from dtr1_jax.data.prompts import Style
from dtr1_jax.types import Demonstration


def object_schedule(c: Config, video: bool = False) -> Callable[[int, int], int]:
    """Returns a function (step, batch) -> number of objects in every scene of that batch.

    All scenes of a batch have the same number, so that their transcripts are about equally long. Successive batches
    cycle through the numbers from data.min_objects to an upper limit. The limit grows linearly from min_objects + 1 to
    data.max_objects over the first fraction sft.curriculum of the steps, and stays there. For videos the maximum is
    data.max_video_objects.
    """
    most = c.data.max_video_objects if video else c.data.max_objects
    fewest = min(c.data.min_objects, most)
    ramp = max(1, round(c.sft.curriculum * c.sft.steps))

    def count(step: int, batch: int) -> int:
        limit = min(most, fewest + 1 + max(0, most - fewest - 1) * step // ramp)
        return fewest + batch % (limit - fewest + 1)

    return count


def is_drawn_to_order(c: Config, style: Style) -> bool:
    """Whether the demonstrations follow the schedule of TwinWorld for a policy of our own, with the dense loss.

    Other sources, and other policies, take the annotated examples of `data.source` as they come: other policies resize
    the pictures, or read text only.
    """
    return c.data.source == "twinworld" and style.geometry is not None and style.geometry.rule == "square"


def dense_weight(c: Config, style: Style) -> float:
    """Weight of the dense loss, whose classes are TwinWorld's labels; 0 where it is not used."""
    return c.sft.dense if is_drawn_to_order(c, style) else 0.0


def tower_steps(c: Config, style: Style) -> int:
    """Number of steps at the start that train the vision tower alone; 0 without the dense loss, which trains it."""
    return round(c.sft.tower * c.sft.steps) if dense_weight(c, style) else 0


class ColdStartBatches:
    """The batches of all steps, with a position that a checkpoint can hold.

    Each step is about pictures or about videos, in the proportion of data.video, and summaries have steps of their own.
    In a mixed batch every prompt would be padded to the length of a video, and every transcript to that of a summary.
    The examples of other sources than TwinWorld are not sorted in this way.

    Args:
      c: the settings.
      style: how the policy is prompted.
      shard: (number of a share of each batch, how many shares there are); None = one share for each process.
    """

    def __init__(self, c: Config, style: Style, shard: tuple[int, int] | None = None):
        # (about videos, summaries) -> the tasks of such a step with their weights
        kinds: dict[tuple[bool, bool], dict[str, float]] = {}
        for task, video, weight in sources.cells(c.data):
            kind = (video, task == "summary") if is_drawn_to_order(c, style) else (False, False)
            kinds.setdefault(kind, {})[task] = weight
        self._steps = mixture.interleave(tuple(sum(tasks.values()) for tasks in kinds.values()))
        self._step = 0
        self._streams = [
            _streams(c, style, tasks, video, functools.partial(self._steps.place, part), shard)
            for part, ((video, _), tasks) in enumerate(kinds.items())
        ]

    def next(self, text: bool) -> tuple[Demonstration, Demonstration | None]:
        """(demonstrations, practice or None) of the next step; without `text` only the tower is trained, and it needs
        no practice.
        """
        demonstrations, practice = self._streams[self._steps.at(self._step)[0]]
        self._step += 1
        return next(demonstrations), next(practice) if text and practice is not None else None

    def get_state(self) -> dict:
        """The position as a dict that JSON can hold; `set_state` takes it."""
        positions = [
            {"pictures": demonstrations.get_state(), "practice": practice and practice.get_state()}
            for demonstrations, practice in self._streams
        ]
        return positions[0] if len(positions) == 1 else {"streams": positions, "step": self._step}

    def set_state(self, state: dict) -> None:
        """Goes to a position that `get_state` gave."""
        self._step = state.get("step", 0)
        for (demonstrations, practice), position in zip(self._streams, state.get("streams", [state])):
            demonstrations.set_state(position["pictures"])
            if practice is not None:
                practice.set_state(position["practice"])


def _streams(
    c: Config, style: Style, tasks: dict[str, float], video: bool, step_of: Callable[[int], int],
    shard: tuple[int, int] | None,
) -> tuple:  # fmt: skip
    """(iterator of demonstrations, iterator of practice or None) for one kind of step.

    Args:
      tasks: the tasks of these steps with their weights.
      step_of: maps the number k of a batch of this kind to the step of the cold start that trains on it.
      shard: (number of a share of each batch, how many shares there are); None = one share for each process.
    """
    count, shard = object_schedule(c, video), shard or (jax.process_index(), jax.process_count())
    common: dict = {
        "seed": c.data.seed, "workers": c.data.workers, "shard": shard, "budget": c.data.prefetch_mb << 20,
    }  # fmt: skip

    def objects_of_batch(batch: int) -> int:
        return count(step_of(batch), batch)

    batch, length = c.sft.batch // shard[1], c.rollout.new_tokens
    if not is_drawn_to_order(c, style):
        source = sources.open_source(c.data, c.data.train_split)
        demonstrations = pipeline.annotated_demonstrations(
            source, style, batch, length=length, direct=c.sft.direct, shuffle_objects=c.data.shuffle_objects, **common
        )
        return iter(demonstrations), None
    common |= {"task_weights": tasks, "frames": sources.max_frames(c.data) if video else 0}
    demonstrations = pipeline.demonstration_batches(
        style, batch, length=length, size=c.data.image_size,
        objects=lambda index: objects_of_batch(index // c.sft.batch), direct=c.sft.direct,
        shuffle_objects=c.data.shuffle_objects, **common,
    )  # fmt: skip
    if not c.sft.practice:
        return iter(demonstrations), None
    without_practice = sum(step_of(batch) < tower_steps(c, style) for batch in range(tower_steps(c, style)))
    practice = pipeline.practice_batches(
        style, c.sft.practice // shard[1], queries=c.sft.practice_queries, drills=c.sft.practice_drills,
        objects=lambda index: objects_of_batch(without_practice + index // c.sft.practice), **common,
    )  # fmt: skip
    return iter(demonstrations), iter(practice)
