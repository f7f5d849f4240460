"""`--mode=infer`: pictures or a video and one question -> twin, answer and overlay as files."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from dtr1_jax import config, mesh
from dtr1_jax.data import pipeline, video_files, visuals
from dtr1_jax.evaluation import answers, predict
from dtr1_jax.modes import train
from dtr1_jax.policies import pretrained
from dtr1_jax.specialists.segmenter import Segmenter
from dtr1_jax.types import TASKS, Example, Target, Video

log = logging.getLogger(__name__)

_SEEN = np.ndarray | Video
# What a policy of ours was cold-started with: the settings of a task alone may have less room than a video or a summary
PROMPT_TOKENS, NEW_TOKENS = 208, 224


def run(
    c: config.Config, workdir: Path, image: str | Sequence[str] | None, query: str | None, *,
    video: str | None = None, task: str | None = None,
) -> Path:  # fmt: skip
    """Answers and writes into a new folder `workdir/infer/<name of the picture or video>`; returns it.

    `answers.write_answer` lists the files. The answer is about the video, or else about the first picture.

    Args:
      image: a picture or several, each also with commas between; a video file or folder of frames is taken as well.
      query: the question.
      video: a video file or a folder of frames.
      task: one of types.TASKS; None = config.data.task.

    Raises ConfigError where picture or query is missing, the task is unknown, or the policy does not see what is shown;
    ImageError for a bad picture or video, PromptError for a query that is too long.
    """
    if task is None and c.data.task not in TASKS:
        raise config.ConfigError(f"config.data.task = {c.data.task!r}: say which by --task, one of {', '.join(TASKS)}")
    task = task or c.data.task
    if task not in TASKS:
        raise config.ConfigError(f"--task: expected one of {', '.join(TASKS)}, got {task!r}")
    if not (image or video) or not query or not query.strip():
        raise config.ConfigError(
            '--mode=infer needs --image=photo.jpg and --query="what to look for", or --video=clip.mp4 for the picture'
        )
    pretrained_policy = pretrained.load_policy(c)
    paths = ([video] if video else []) + _paths(image)
    shown = _shown(c, pretrained_policy, paths, video)
    if pretrained_policy.stored is None:
        c, pretrained_policy = _with_room(c, pretrained_policy, shown)
    pixels = visuals.first_frame(shown)
    nothing = Target(np.zeros(pixels.shape[:2], bool), np.zeros((0, 4), np.float32))
    words = query.strip().lower() if c.policy.prompt == "brief" else query.strip()  # the cold start's are lower case
    example = Example(uid=",".join(paths), image=pixels, query=words, task=task, target=nothing, visuals=shown)
    device_mesh = mesh.make(c.mesh)
    batch = pipeline.single(example, pretrained_policy.style)
    weights = train.trained(c, pretrained_policy, device_mesh, workdir)
    made = predict.open_folder(Path(workdir) / "infer")
    ((parsed,),), _ = predict.ask(*weights, pretrained_policy, c, device_mesh, batch, jax.random.key(c.seed))
    if not parsed.sound:
        why = f"{parsed.faults[0].where}: {parsed.faults[0].message}"
        log.warning("the answer is unsound, so its boxes, mask or words are empty (answer.json says all): %s", why)
    said = {"query": query}
    if task == "segmentation":
        with Segmenter(c.reward.segmenter, c.reward.workers, 10 * c.reward.deadline) as segmenter:
            frames = answers.resolve_frames(example, batch.canvases[0], parsed, segmenter)
            said["masks_by"] = segmenter.description
    else:
        frames = answers.resolve_frames(example, batch.canvases[0], parsed, None)
    folder = _new_folder(made, Path(paths[0]).stem)
    answers.write_answer(folder, example, batch.canvases[0], parsed, frames, said)
    return folder


def _shown(
    c: config.Config, pretrained_policy: pretrained.PretrainedPolicy, paths: list[str], video: str | None
) -> tuple[_SEEN, ...]:
    """What the policy gets to see, the video first. Raises ConfigError, ImageError."""
    geometry = pretrained_policy.style.geometry
    if geometry is None:
        raise config.ConfigError(
            f"--mode=infer needs a policy that sees pictures, got {c.policy.name}, which reads text"
        )
    if not video:
        return tuple(visuals.load_visual(path, geometry) for path in paths)
    film = video_files.load_video(video, geometry.video, geometry.temporal_patch)
    return (film, *(visuals.load_visual(path, geometry) for path in paths[1:]))


def _with_room(
    c: config.Config, pretrained_policy: pretrained.PretrainedPolicy, shown: Sequence[_SEEN]
) -> tuple[config.Config, pretrained.PretrainedPolicy]:
    """Both with prompts and completions of at least PROMPT_TOKENS and NEW_TOKENS, and as many frames as are shown."""
    style, rollout = pretrained_policy.style, c.rollout
    frames = sum(len(one.frames) if isinstance(one, Video) else 1 for one in shown)
    style = dataclasses.replace(style, length=max(style.length, PROMPT_TOKENS), frames=max(style.frames, frames))
    rollout = dataclasses.replace(rollout, new_tokens=max(rollout.new_tokens, NEW_TOKENS))
    return dataclasses.replace(c, rollout=rollout), dataclasses.replace(pretrained_policy, style=style)


def _paths(named: str | Sequence[str] | None) -> list[str]:
    """Of each: one path, also where its name has commas in it, or several."""
    every = [named] if isinstance(named, str) else named or []
    return [path for one in every for path in ([one] if Path(one).exists() else map(str.strip, one.split(",")))]


def _new_folder(parent: Path, name: str) -> Path:
    """A folder that did not exist: name, name-2, name-3, ..., so that an earlier answer is never overwritten."""
    for i in range(1, 100_000):
        folder = parent / (name if i == 1 else f"{name}-{i}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise config.ConfigError(f"{parent}: too many answers for {name}; choose another --workdir")
