"""`--mode=infer`: pictures or a video and one question -> twin, answer and overlay as files."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dtr1_jax import config, places
from dtr1_jax.asking import perceived_twins
from dtr1_jax.asking.perceived_twins import Insertion
from dtr1_jax.data import pipeline, video_files, visuals
from dtr1_jax.evaluation import answers, predict
from dtr1_jax.modes import mesh_choice, perceive, perceive_inputs, results
from dtr1_jax.policies import pretrained, state
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.policies.runtime import Runtime, open_perceiver
from dtr1_jax.run import local_copy
from dtr1_jax.specialists.learned_segmenter import open_segmenter
from dtr1_jax.specialists.perceived import PerceivedScene, Perceiver
from dtr1_jax.twin.construct import Request
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.transcript import Transcript, parse
from dtr1_jax.types import TASKS, Example, Target, Video

log = logging.getLogger(__name__)

# The lengths in tokens with which our own policy was cold-started for all tasks. The settings of one task alone may
# leave less room than a video or a summary takes.
PROMPT_TOKENS, NEW_TOKENS = 208, 224
# The segmenter gets this many times its deadline in training: a user waits for one answer, and a slow one beats none.
PATIENCE = 10
# Constructors with which specialists look at the picture: when the policy asks them, or before it is asked.
LOOKED_AT = ("specialists", "given")


def run(
    c: config.Config, workdir: Path, image: str | Sequence[str] | None, query: str | None, *,
    video: str | None = None, task: str | None = None, step: str = "newest",
) -> Path:  # fmt: skip
    """Answers one query about pictures or a video; returns the new folder `workdir/infer/<name>` with the files.

    evaluation/answers.py says which files there are. The answer is about the video, or else about the first picture.

    Args:
      image: a picture or several, each also with commas between; a video file or folder of frames is taken as well.
      query: the question.
      video: a video file or a folder of frames.
      task: one of types.TASKS; None = config.data.task.
      step: the checkpoint: "newest", "best" or a number, as state.trained_weights takes it.

    Raises ConfigError if picture or query is missing, the task is unknown, or the policy cannot take the input;
    ImageError for a bad picture or video; PromptError for a query that is too long.
    """
    task = _task(c, task)
    if not (image or video) or not query or not query.strip():
        raise config.ConfigError(
            '--mode=infer needs --query="what to look for" and --image=photo.jpg or --video=street.mp4'
        )
    pretrained_policy = pretrained.load_policy(c)
    paths = ([str(local_copy.fetch(video, "--video"))] if video else []) + _paths(image)
    inputs = _load_inputs(c, pretrained_policy, paths, bool(video))
    if pretrained_policy.checkpoint is None:
        c, pretrained_policy = _with_room(c, pretrained_policy, inputs)
    example = _example(c, paths, inputs, query, task)
    with open_perceiver(c, LOOKED_AT) as perceiver:
        look = _look_first(c, perceiver, example) if c.policy.constructor == "given" else None
        if look is not None:
            example = dataclasses.replace(example, scene=look.scene.instances, relations=tuple(look.scene.relations))
        device_mesh = mesh_choice.make(c, pretrained_policy.spec)
        batch = pipeline.single_batch(example, pretrained_policy.style)
        params, lora, _ = state.trained_weights(c, pretrained_policy, device_mesh, workdir, step)
        parent = results.open_folder(places.path(workdir) / "infer")
        notes: dict[str, Any] = {"query": query} | ({} if perceiver is None else {"twin_by": perceiver.description})
        runtime = Runtime(c, pretrained_policy, device_mesh, params, lora, perceiver=perceiver).for_rollout()
        completed = predict.ask(runtime, batch, jax.random.key(c.seed))
    transcript, canvas = completed.transcripts[0][0], batch.canvases[0]
    real = completed.real[0][0] if completed.real else None
    if look is not None:
        real = _real(look, transcript, example, canvas)
        notes |= {"specialists_failed": list(look.scene.failures)} if look.scene.failures else {}
    shown = _shown(transcript, example, canvas, c.policy.constructor)
    if not transcript.sound:
        log.warning("%s", _why_unsound(c, transcript, shown.sound))
    if task == "segmentation":
        with open_segmenter(c.reward.segmenter, c.reward.workers, PATIENCE * c.reward.deadline) as segmenter:
            frames = answers.resolve_frames(example, canvas, shown, segmenter, real)
            named = (shown.answer.objects or ()) if shown.answer and shown.sound else ()
            has_pixels = real is not None and bool(named) and set(named) <= set(real.masks)
            if any(len(frame.boxes) for frame in frames):
                notes["masks_by"] = notes.get("twin_by", "the given twin") if has_pixels else segmenter.description
    else:
        frames = answers.resolve_frames(example, canvas, shown, None)
    folder = results.new_folder(parent, Path(paths[0]).stem)
    answers.write_answer(folder, example, canvas, transcript, frames, notes)
    return folder


@dataclasses.dataclass(frozen=True)
class _Look:
    """What specialists saw before the policy was asked."""

    request: Request
    scene: PerceivedScene


def _look_first(c: config.Config, perceiver: Perceiver | None, example: Example) -> _Look:
    """Everything that the specialists can say of the picture or video, for the prompt.

    Raises ConfigError if they find nothing, or if they do not know what to look for.
    """
    assert perceiver is not None  # open_perceiver opens it for this constructor
    visual = example.image if example.video is None else example.video
    words = perceive_inputs.phrases(c.specialists, getattr(perceiver, "classes", None))
    request = perceive.request(visual, words, c.specialists)
    (scene,) = perceiver.perceive([visual], [request])
    for failure in scene.failures:
        log.warning("specialists: %s", failure)
    if not scene.instances:
        raise config.ConfigError(
            f"{example.uid}: the specialists found none of {len(words)} kinds of things, so there is no twin to reason "
            "over; lower config.specialists.threshold, or take a detector that knows more things"
        )
    return _Look(request, scene)


def _real(look: _Look, transcript: Transcript, example: Example, canvas: Canvas) -> Insertion:
    """The pixels of the twin's objects that a segmenter found."""
    if transcript.twin is None:
        return Insertion()
    masks, looked = perceived_twins.real_masks(look.scene, look.request, transcript.twin, example, canvas)
    return Insertion(twin=transcript.twin, masks=masks, looked=looked)


def _task(c: config.Config, task: str | None) -> str:
    """The task of --task, or of the settings. Raises ConfigError if neither names one."""
    if task is None and c.data.task not in TASKS:
        raise config.ConfigError(f"config.data.task = {c.data.task!r}: add --task, one of {', '.join(TASKS)}")
    task = task or c.data.task
    if task not in TASKS:
        raise config.ConfigError(f"--task: expected one of {', '.join(TASKS)}, got {task!r}")
    return task


def _load_inputs(
    c: config.Config, pretrained_policy: PretrainedPolicy, paths: list[str], video_first: bool
) -> tuple[np.ndarray | Video, ...]:
    """The pictures and videos in the order of the prompt, that of --video first. Raises ImageError."""
    geometry = pretrained_policy.style.geometry
    if not video_first:
        return tuple(visuals.load_visual(path, geometry) for path in paths)
    rule = pretrained.video_rule(c.policy) if geometry is None else geometry.video
    first = video_files.load_video(paths[0], rule, 1 if geometry is None else geometry.temporal_patch)
    return (first, *(visuals.load_visual(path, geometry) for path in paths[1:]))


def _example(
    c: config.Config, paths: list[str], inputs: tuple[np.ndarray | Video, ...], query: str, task: str
) -> Example:
    """The query as an example without a target."""
    image = visuals.first_frame(inputs)
    no_target = Target(np.zeros(image.shape[:2], bool), np.zeros((0, 4), np.float32))
    # A policy with brief prompts was cold-started on lower-case queries only.
    words = query.strip().lower() if c.policy.prompt == "brief" else query.strip()
    return Example(uid=",".join(paths), image=image, query=words, task=task, target=no_target, visuals=inputs)


def _with_room(
    c: config.Config, pretrained_policy: PretrainedPolicy, inputs: Sequence[np.ndarray | Video]
) -> tuple[config.Config, PretrainedPolicy]:
    """The settings and the policy, with room for the longest texts of the cold start and all frames of the inputs."""
    style, rollout = pretrained_policy.style, c.rollout
    frames = sum(len(one.frames) if isinstance(one, Video) else 1 for one in inputs)
    style = dataclasses.replace(style, length=max(style.length, PROMPT_TOKENS), frames=max(style.frames, frames))
    rollout = dataclasses.replace(rollout, new_tokens=max(rollout.new_tokens, NEW_TOKENS))
    return dataclasses.replace(c, rollout=rollout), dataclasses.replace(pretrained_policy, style=style)


def _shown(transcript: Transcript, example: Example, canvas: Canvas, constructor: str) -> Transcript:
    """What is drawn for a person: also an answer whose only faults are a missing or broken thought, or the missing end
    of the last tag.

    Training and evaluation refuse such an answer. answer.json says that it is unsound.
    """
    read = transcript
    if read.answer is None:
        given = None if constructor == "policy" else read.twin
        read = parse(
            f"{read.text}</answer>", task=example.task, canvas=canvas, constructor=constructor, given_twin=given
        )
    whole = read.answer is not None and read.twin is not None
    drawn = whole and {fault.where for fault in read.faults} <= {"think"}
    return dataclasses.replace(read, faults=()) if drawn else transcript


def _why_unsound(c: config.Config, transcript: Transcript, is_shown: bool) -> str:
    """A warning about a transcript with faults: the likely cause and the next step first, then the first fault."""
    fault = f"{transcript.faults[0].where}: {transcript.faults[0].message}"
    shipped = c.policy.name == "tiny" and not c.policy.path
    cause = (
        "The shipped policy knows only TwinWorld's drawn scenes and writes no sound twin of most other pictures: take"
        " --config=configs/photo.py, or train on pictures of this kind."
        if shipped
        else "The policy has not learnt the form of the answer yet: train it longer, or ask a larger policy."
    )
    effect = "but it is drawn all the same" if is_shown else "so its boxes, mask or words are empty"
    return f"{cause} The answer is unsound, {effect}; answer.json lists every fault, the first is {fault}"


def _paths(named: str | Sequence[str] | None) -> list[str]:
    """The paths of all --image flags. A value is one path, also with commas in it, or several with commas between."""
    values = [named] if isinstance(named, str) else named or []
    named = [path for one in values for path in ([one] if Path(one).exists() else map(str.strip, one.split(",")))]
    return [str(local_copy.fetch(path, "--image")) if places.is_bucket(path) else path for path in named]
