"""The life of one batch, as frozen dataclasses.

Axis legend (letters at the end of array names, in the order of the axes):

    B queries       G rollouts per query   R = B*G rows     P prompt tokens   S completion tokens
    L = P+S         V vocabulary           D width          F hidden          N query heads
    K kv heads      H head dim             T frames         M objects         n patches   c values of a patch

Host types (`Instance`, `Target`, `Video`, `Example`) hold the contents of a data set. Their boxes are in the *unit*
frame: float x1,y1,x2,y2 in [0,1] of the picture, x right and y down. Only the text of a twin uses another frame
(twin/coordinates.py).
Device types (`Images`, `Prompt`, `Demonstration`, `Rollout`, `Rewards`) are pytrees whose arrays all lead with the
batch axis.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal

import jax
import numpy as np

TASKS = ("segmentation", "grounding", "vqa", "summary")
POINTING = ("segmentation", "grounding")  # tasks answered by objects or boxes; the others are in words
CATEGORIES = ("semantic", "spatial", "count", "temporal")
LEVELS = (1, 2, 3, 4)
# The values of data.source: our own, formats, and public benchmarks.
SourceName = Literal[
    "twinworld", "coco", "davis", "jsonl", "foreign", "easy_vqa",
    "refcoco", "refcoco+", "refcocog", "grefcoco", "reasonseg", "llm_seg", "clevr", "vqav2", "gqa",
    "coco_captions", "nextqa", "msrvtt",
    "vrt", "mevis", "revos", "ref_davis17", "ref_ytvos", "reasonvos", "tfds",
]  # fmt: skip

# An operation on the objects of a twin and its arguments, which are words, tuples of words, or programs of their own:
# ("left of", ("word", ("all",), "red"), ("label", "mug")). twin/programs.py executes it. () = none.
Program = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Instance:
    """One object of a picture or video as the data set annotates it.

    Attributes:
      id: 1, 2, ... in the order in which an oracle twin lists the objects; the same in all frames of a video.
      label: category name.
      box: x1,y1,x2,y2 of the visible part, unit frame. In a video it is that of the first frame, all 0 if the object
        is not visible there.
      mask: bool[h, w], the visible pixels at the picture's own size; smaller where a large photo is evaluated
        (data/working_size.py). In a video it is that of the first frame.
      depth: 1 = nearest; 0 = not known.
      attributes: words such as "red", "large", "metal".
      boxes: float64[T, 4], `box` in each frame of a video, all 0 if it is not visible; None = a picture.
      masks: bool[T, h, w], `mask` in each frame of a video; None = a picture, or not known.
      outlined: whether the mask follows the object's outline; False = only its box is known, and the mask fills it.
      velocity: mean motion dx, dy of the object from one frame to the next, unit frame, between the first and the last
        frame in which it is visible; None = the data set has none, so it is computed from `boxes`.
    """

    id: int
    label: str
    box: tuple[float, float, float, float]
    mask: np.ndarray
    depth: int = 0
    attributes: tuple[str, ...] = ()
    boxes: np.ndarray | None = None
    masks: np.ndarray | None = None
    velocity: tuple[float, float] | None = None
    outlined: bool = True


@dataclasses.dataclass(frozen=True)
class Target:
    """The right answer to a query. Its objects are the ones that the query asks for.

    Attributes:
      mask: bool[h, w], union of the objects' pixels at the picture's own size; all False if no object matches the
        query. In a video, `mask` and `boxes` are those of the first frame.
      boxes: float32[n, 4], one box for each object, unit frame; n = 0 if no object matches the query.
      ignore: bool[h, w] or None, pixels that count neither for nor against an answer (crowd regions).
      masks: bool[T, h, w], `mask` in each frame of a video; None = a picture, or a video with words as its answer.
      tracks: float32[n, T, 4], the box of each object in each frame of a video, unit frame, all 0 if it is not
        visible; n counts the objects that are visible in some frame. None if `masks` is None.
      labelled: bool[T], True at the annotated frames of a video; the others count neither way. None = all frames.
      references: right answers in words, the oracle's first. An answer must equal any one of them (vqa), or is compared
        with all of them (summary). Empty for the other tasks; the tasks in words have no pixels and boxes instead.
      choices: the options (A), (B), ... of the query; an answer may be the letter or the words. Empty = no options.
    """

    mask: np.ndarray
    boxes: np.ndarray
    ignore: np.ndarray | None = None
    masks: np.ndarray | None = None
    tracks: np.ndarray | None = None
    labelled: np.ndarray | None = None
    references: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Video:
    """Frames sampled from a video.

    Attributes:
      frames: uint8[T, h, w, 3], sRGB, in the order of time.
      index: int[T], the numbers of these frames in the video, counted from 0.
      fps: frames per second of the whole video.
      total: number of frames of the whole video.
    """

    frames: np.ndarray
    index: np.ndarray
    fps: float
    total: int

    @property
    def sampled_fps(self) -> float:
        """Frames per second of the sampled frames."""
        return len(self.index) / self.total * self.fps


class FrameTruth(typing.NamedTuple):
    """What a benchmark annotates in one frame of a video.

    Attributes:
      target: bool[h, w], the pixels that the query asks for.
      ignore: bool[h, w], pixels that count neither way; None = there are none.
      foreground: bool[h, w], the pixels of all annotated objects; None = not known.
    """

    target: np.ndarray
    ignore: np.ndarray | None = None
    foreground: np.ndarray | None = None


class WholeVideo(typing.Protocol):
    """The frames of a video that its benchmark scores, of which the policy may see some; read one at a time."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of these frames in the video, ascending, as in Video.index."""

    def frame(self, k: int) -> np.ndarray:
        """uint8[h, w, 3], frame `numbers[k]`. Raises ValueError, such as image_files.ImageError."""

    def truth(self, k: int) -> FrameTruth:
        """What is annotated in frame `numbers[k]`, at the size of the frame. Raises as `frame`."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One query about a picture, several pictures or a video.

    Attributes:
      uid: unique and stable within its source; appears in predictions and errors.
      image: uint8[h, w, 3], sRGB, upright: the picture, or the video's first frame, to which target and scene refer.
      query: the user's words.
      task: one of TASKS.
      target: the right answer.
      scene: the annotated objects, empty if the data set has none.
      answer_ids: ids of the target's objects in `scene`; None if the target is not made of objects of the scene.
      thought: the oracle's reasoning for the cold start; empty if there is none.
      category: one of CATEGORIES, or "" where not known.
      level: length of the reasoning chain, one of LEVELS, or 0 if not known.
      program: computes the answer from the objects of a twin, see twin/programs.py; () if there is none. That of a
        summary gives the objects that it describes.
      empty_scene: `scene` is empty because somebody looked and found no object, not because the data set has none.
      relations: (id, words, id) of objects of `scene`, such as (1, "on", 2).
      visuals: the pictures uint8[h, w, 3] and Videos that the policy sees, in order. Boxes refer to the first, which
        must have the size of `image`. Empty = the policy sees `image` alone.
      benchmark: name of the public benchmark to whose figures the query counts; "" = none.
      tags: words by which the benchmark reports its figures, such as "long".
      whole: all frames that a benchmark about videos scores; None = those that the policy sees.
      hidden_objects: number of annotated objects that are not in `scene`, because there were more than
        data.max_objects. A twin that the prompt shows says so ("more").
    """

    uid: str
    image: np.ndarray
    query: str
    task: str
    target: Target
    scene: tuple[Instance, ...] = ()
    answer_ids: tuple[int, ...] | None = None
    thought: str = ""
    category: str = ""
    level: int = 0
    visuals: tuple[np.ndarray | Video, ...] = ()
    program: Program = ()
    empty_scene: bool = False
    relations: tuple[tuple[int, str, int], ...] = ()
    benchmark: str = ""
    tags: tuple[str, ...] = ()
    whole: WholeVideo | None = None
    hidden_objects: int = 0

    @property
    def video(self) -> Video | None:
        """The video that target and scene refer to; None if they refer to a picture."""
        return self.visuals[0] if self.visuals and isinstance(self.visuals[0], Video) else None


@typing.dataclass_transform(frozen_default=True)
def pytree(cls: type) -> type:
    """Makes a class a frozen dataclass and a JAX pytree whose fields are all data. A decorator."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    return jax.tree_util.register_dataclass(cls, [f.name for f in dataclasses.fields(cls)], [])


@pytree
class Images:
    """Patches of the pictures and videos of each query, padded to n.

    The merge x merge patches that become one token stand together, and so do the tokens of an attention window, where
    the tower has windows. `Prompt.slot_bp` gives the places of these tokens in the prompt.

    Attributes:
      patch_bnc: float32[B, n, c], normalised pixel values, c = channels * temporal * patch * patch.
      position_bn2: int32[B, n, 2], row and column of the patch in its picture, in patches.
      corner_bn4: int32[B, n, 4], rows of the learned position table around the patch; None if there is no table.
      corner_weight_bn4: float32[B, n, 4], their bilinear weights (sum to 1; 0 at padding), or None.
      segment_bn: int32[B, n], number of the picture or frame (1, 2, ...): a patch attends to the patches with its own
        number. 0 is padding. Example: [1 1 1 1 2 2 2 2 0 0 0 0].
      window_bn: int32[B, n], number of the attention window (1, 2, ..., never the same in two frames; 0 is padding),
        or None if the tower has no windows. Example: [1 1 2 2 3 3 4 4 0 0 0 0].
    """

    patch_bnc: Any
    position_bn2: Any
    corner_bn4: Any
    corner_weight_bn4: Any
    segment_bn: Any
    window_bn: Any = None


@pytree
class Prompt:
    """Tokenised prompts, padded to P. The padding may be anywhere; the mask marks it.

    Attributes:
      token_bp: int32[B, P].
      mask_bp: bool[B, P], True at real tokens. Example: [1 1 1 1 0 0].
      position_bp3: int32[B, P, 3], rotary positions (time, row, column; equal for text).
      slot_bp: int32[B, P], index of the vision token at this place, -1 at text.
      next_b: int32[B], rotary position of the first completion token.
      images: the pictures, or None for text-only prompts.
    """

    token_bp: Any
    mask_bp: Any
    position_bp3: Any
    slot_bp: Any
    next_b: Any
    images: Images | None


@pytree
class Demonstration:
    """The texts that the cold start imitates.

    There are two kinds. A demonstration is one transcript (G = 1) of each picture or video. Practice is G queries, with
    their thoughts and answers, about each twin.

    Attributes:
      prompt: the prompts; in practice they show a twin and no pictures.
      token_bgs: int32[B, G, S], the oracle's transcript, or a query with its thought and answer, and the end token.
      mask_bgs: bool[B, G, S], True at the tokens that carry loss: all real tokens but those of a twin that specialists
        put in. Example with such a twin: [1 1 0 0 1 1 0].
      reason_bgs: bool[B, G, S], True at the tokens after "<think>": the thought and the answer.
      dense_bnf: int32[B, n, f], classes of the object that covers each patch (0 = no object); None in practice.
      box_bn4: float32[B, n, 4], the box of that object, unit frame, 0 if there is none; None in practice.
    """

    prompt: Prompt
    token_bgs: Any
    mask_bgs: Any
    reason_bgs: Any
    dense_bnf: Any
    box_bn4: Any


@pytree
class Rollout:
    """Sampled completions.

    Attributes:
      token_bgs: int32[B, G, S], padded with the pad token after the end.
      mask_bgs: bool[B, G, S], True at sampled tokens, the end token included. Example: [1 1 1 1 0 0]; with two inserted
        tokens [1 1 0 0 1 1 0 0].
      logp_bgs: float32[B, G, S], log-probability of each sampled token under softmax(logits / temperature), without
        the cuts of top-k and top-p, as in the update; 0 at padding.
      stopped_bg: bool[B, G], True if the completion has its end token; False if it was cut off.
      inserted_bgs: bool[B, G, S], True at tokens that the host put into the completion. They are read like sampled
        tokens and belong to the text, but not to the loss, the length, the entropy and the KL. None = there are none.
        Example: [0 0 1 1 0 0 0 0].
    """

    token_bgs: Any
    mask_bgs: Any
    logp_bgs: Any
    stopped_bg: Any
    inserted_bgs: Any = None

    @property
    def text_bgs(self) -> Any:
        """bool[B, G, S], True at the tokens of the completion's text, sampled or inserted."""
        return self.mask_bgs if self.inserted_bgs is None else self.mask_bgs | self.inserted_bgs


@pytree
class Rewards:
    """Scores of a group.

    Attributes:
      columns: name -> float32[B, G], each in [0, 1]; 0 in the rows of queries whose task does not have the column.
      total_bg: float32[B, G], the weighted sum of the columns.
      own: name -> bool[B], True at queries whose task has the column; its means are over these queries. None = every
        query has every column.
    """

    columns: dict[str, Any]
    total_bg: Any
    own: dict[str, Any] | None = None
