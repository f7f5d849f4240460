"""The words of a prompt: they ask for a twin, show one, or say who makes it, and say how the answer is written."""

from __future__ import annotations

from dtr1_jax import types
from dtr1_jax.twin.construct import DEPTH, MAX_PHRASES, TRACK
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.text import dumps_twin

_ANSWERS = {
    "segmentation": '{"objects":[ids of the objects whose masks are the answer]}, with an empty list if nothing fits',
    "grounding": '{"objects":[ids]} or {"boxes":[[x1,y1,x2,y2]]}, with an empty list if nothing fits',
    "vqa": '{"text":"short answer"}',
    "summary": '{"text":"one paragraph"}',
}
# A box in an answer has no frame number, so boxes could only answer for the first frame of a video.
_VIDEO_ANSWERS = {**_ANSWERS, "grounding": '{"objects":[ids]}, with an empty list if nothing fits'}
_FRAMES = {
    Frame.PIXEL: "in pixels of the picture as given, size [{w},{h}]",
    Frame.NORM1000: "in thousandths of the picture's width and height; size is [{w},{h}] pixels",
}
_TRACKS = (
    'An object that does not stand still has, in place of "box", "track":{{"{first}":[x1,y1,x2,y2],'
    '"{last}":[x1,y1,x2,y2]}} with the frames where its motion begins, changes or ends, null for a frame from which on '
    'it is out of sight, and "velocity":[dx,dy] from one frame to the next. '
)
_COUNTING = "Ids count from 1"
# A brief prompt starts with one of these: a question may want objects or words, and its own words do not always tell.
_POINT, _SPEAK = "point: ", "in words: "


def instruction(
    query: str,
    task: str,
    canvas: Canvas,
    words: str,
    twin: Twin | None = None,
    several: bool = False,
    named: bool = False,
    asks: bool = False,
) -> str:
    """Writes the user's text: the query, the instructions that `words` asks for, and the twin if there is one.

    Names of special tokens in the query are broken up, so that they stay plain text.

    Args:
      query: the user's words.
      task: one of types.TASKS.
      canvas: the picture or video as the policy sees it.
      words: as in prompts.Style.
      twin: the twin that the example brings, or None if the policy has to write it.
      several: the prompt has several pictures, and the twin is about the first.
      named: whether the ids of a twin that the policy writes are names.
      asks: specialists make the twin, and the policy asks them for it.
    """
    query = query.replace("<|", "< |").strip()
    block = "" if twin is None else twin_block(twin)
    if words != "full":
        return block + query_line(query, words, task not in types.POINTING)
    w, h = canvas.size
    frame = _FRAMES[canvas.frame].format(w=w, h=h)
    form = "<think>your reasoning over the twin</think><answer>answer</answer>"
    scene, article = ("first picture", "the") if several else ("picture", "a")
    numbers, tracks, answers = "", "", _ANSWERS
    if canvas.frames:
        scene, numbers, answers = "video", f'"frames":{list(canvas.frames)},'.replace(" ", ""), _VIDEO_ANSWERS
        tracks = _TRACKS.format(first=canvas.frames[0], last=canvas.frames[-1])
    if asks:
        return (
            f"{_request(scene, canvas)}Then its digital twin appears as <twin>{{...}}</twin>, with boxes "
            f"[x1,y1,x2,y2], integers {frame}, x to the right and y down; depth 1 is nearest. {tracks}"
            f"After it, reason over the twin and answer, in this form:\n{form}\n"
            f"The answer is compact JSON: {answers[task]}.\nQuery: {query}"
        )
    if twin is None:
        first_id, counting = ('"mug_1"', "Ids are the label and a number from 1 on") if named else ("1", _COUNTING)
        return (
            f"First describe the {scene} as a digital twin, then reason over it, then answer.\n"
            f'<twin>{{"size":[{w},{h}],{numbers}"objects":[{{"id":{first_id},"label":"mug","box":[x1,y1,x2,y2],"depth":1,'
            f'"attributes":["red"]}}]}}</twin>{form}\n'
            f"Boxes are integers {frame}. {counting}, depth 1 is nearest. {tracks}"
            f"Write compact JSON. The answer is {answers[task]}.\nQuery: {query}"
        )
    return (
        f"This is the digital twin of {article} {scene}, all that is known of it.\n{block}"
        f"Boxes are [x1,y1,x2,y2], integers {frame}, x to the right and y down; depth 1 is nearest. {tracks}"
        f"Reason over the twin, then answer, in this form:\n{form}\n"
        f"The answer is compact JSON: {answers[task]}.\nQuery: {query}"
    )


def _request(scene: str, canvas: Canvas) -> str:
    """How a policy asks the specialists for the twin of a scene."""
    op, track, frames, choice = DEPTH, "", "", ""
    if canvas.frames:
        numbers = f"{list(canvas.frames)}".replace(" ", "")
        op, track, frames = TRACK, ", track (follows them over the frames)", f',"frames":{numbers}'
        choice = f" frames lists the frames to look at, some of {numbers}; without it they look at all."
    return (
        f"Vision specialists can look at the {scene} for you. First write what they should do, as compact JSON:\n"
        f'<construct>{{"ops":[{{"op":"detect","phrases":["mug","red kettle"]}},{{"op":"segment"}},{{"op":"{op}"}}]'
        f"{frames}}}</construct>\n"
        f"The operations are detect (finds what 1 to {MAX_PHRASES} short phrases name; always needed), segment (the "
        f"pixels of these objects), depth (which is nearer){track}. Ask only for what the query needs.{choice} "
    )


def query_line(query: str, words: str, in_words: bool) -> str:
    """The query; a brief prompt says before it whether the answer is text (`in_words`) or points at objects."""
    return (_SPEAK if in_words else _POINT) + query if words == "brief" else query


def twin_block(twin: Twin) -> str:
    """The twin between its tags, on a line of its own, with names of special tokens broken up."""
    return f"<twin>{dumps_twin(twin)}</twin>\n".replace("<|", "< |")
