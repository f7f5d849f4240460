"""Questions about a scene or video with a short answer in words, and the oracle's reasoning.

A question asks about the objects of a query (pointing.py, temporal.py): how many there are, whether there are any, or
what one object is, looks like, or how it moves. Its thought is that of the query, with the answer as its last step. Its
words do not give the answer away: who has not seen the picture cannot know it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

from dtr1_jax.data.queries import pointing, temporal
from dtr1_jax.data.queries.attributes import VALUES
from dtr1_jax.data.queries.chains import Context, Draft, all_objects, best_draft
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import DIRECTIONS
from dtr1_jax.data.queries.phrases import ADJECTIVES, Phrases
from dtr1_jax.data.queries.temporal_chains import VideoContext, video_context
from dtr1_jax.data.queries.wording import sentence_about
from dtr1_jax.types import LEVELS, Instance, Program

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ATTEMPTS = 6  # failed attempts after which the question asks for the number of all objects
_TEMPORAL = 0.75  # share of the questions about a video that are about time

COUNT = Phrases(
    ("count every {}.", "what do you get if you count every {}?", "how many do you get if you count every {}?"),
    ("if you count every {}, what do you get?",),
    ("say how many you get if you count every {}.",),
)
# These avoid the word "any", because in held-out queries "any" means "every".
ANY = Phrases(
    ("is there some {}?", "can you see some {}?", "say if there is some {}."),
    ("do you see some {}?",),
    ("say if you see some {}.",),
)
LOOKS = {  # name of the last step: sentences; the first three are in the order of Instance.attributes
    "colour": Phrases(
        (
            "what colour is {}?",
            "what is the colour of {}?",
            "name the colour of {}.",
            "which colour is {}?",
            "what colour does {} have?",
        ),
        ("which colour does {} have?",),
        ("say what colour {} has.",),
    ),
    "size": Phrases(
        ("is {} small or large?", "say if {} is small or large.", "say if {} is large or small."),
        ("is {} large or small?",),
        ("which is {}, small or large?",),
    ),
    "material": Phrases(
        (
            "what material is {}?",
            "what is {} made of?",
            "name the material of {}.",
            "which material is {}?",
            "what material is {} made of?",
        ),
        ("which material is {} made of?",),
        ("say what material {} is made of.",),
    ),
    "kind": Phrases(
        (
            "what is {}?",
            "what kind of thing is {}?",
            "name the kind of {}.",
            "which kind is {}?",
        ),
        ("which kind of thing is {}?",),
        ("say what kind of thing {} is.",),
    ),
}
DIRECTION = Phrases(
    (
        "which way does {} move?",
        "where does {} go, left, right, up or down?",
        "name the way {} moves.",
        "name the way {} is moving.",
        "which way does {} go?",
        "which way is {} going?",
    ),
    ("which way is {} moving?",),
    ("say which way {} moves.",),
)
MOVES = Phrases(
    (
        "does {} move?",
        "does {} go anywhere?",
        "say if {} moves.",
        "say if {} is moving.",
        "is {} going anywhere?",
        "is {} on the move?",
    ),
    ("is {} moving?",),
    ("does {} go from where it is?",),
)

# Kind of question or name of its last step -> words of a noun phrase that such a question is not asked about, because
# they hold the answer, or a part of it, or would stand twice.
_TOPICS = {
    "colour": {"colour"},
    "size": set("size small large smaller larger tinier bigger smallest largest tiniest biggest".split()),
    "material": {"material", "made"},
    "kind": {"kind"},
    "moves": set("move moves moving go goes going".split()),
    "way": set("move moves moving go goes going top bottom".split()) | set(DIRECTIONS),
    "count": set("one two four once twice only alone".split()),
    "any": {"no"},
}
_KNOWN = {"count": "twice", "any": "most common"}  # the last filters whose number of objects is known without looking


@dataclasses.dataclass(frozen=True)
class Question:
    """A question with its answer.

    Attributes:
      text: the user's words.
      answers: all right answers, the oracle's first.
      thought: steps "filter ids.", and at last "name: answer.".
      category, level, program: as in types.Example.
    """

    text: str
    answers: tuple[str, ...]
    thought: str
    category: str
    level: int
    program: Program = ()


def sample_question(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    *,
    video: bool = False,
    prefer: frozenset[int] = frozenset(),
) -> Question:
    """Draws a question of a random kind about a scene; always succeeds.

    Args:
      split: "train", "heldout" or "validation", which selects the phrases.
      scene: the objects; those of a video have boxes over time.
      video: whether the scene is a video.
      prefer: ids of objects of which the question should be about one, if possible.
    """
    by_id = {instance.id: instance for instance in scene}
    for _ in range(_ATTEMPTS):
        kinds = ("count", "any", "look", "look", "way" if video else "look", "moves" if video else "count")
        kind = pick(rng, kinds)
        answer_count = _sample_answer_count(rng, kind)
        if video:
            context = video_context(rng, split, scene, answer_count)
        else:
            context = Context(rng, split, by_id, answer_count)
        counted, timed = kind in ("count", "any"), video and kind in ("count", "any", "look")
        topic = context.pick(tuple(LOOKS)) if kind == "look" else kind
        draft, category, level = choose_objects(
            context, video=video, timed=timed, counted=counted, prefer=prefer,
            accept=functools.partial(_can_be_asked, topic=topic),
        )  # fmt: skip
        parts = draft and (_number_question if counted else _object_question)(context, draft, topic)
        if parts:
            text, answers, name = parts
            program = _answer_program(draft.program, kind, name)
            category = "temporal" if kind in ("way", "moves") else category
            thought = " ".join((*draft.steps, f"{name}: {answers[0]}."))
            return Question(text, answers, thought, category, level, program)
    context = Context(rng, split, by_id, "many")
    draft = dataclasses.replace(all_objects(context), text="every thing")
    text, answers, name = _number_question(context, draft, "count")
    program = _answer_program(draft.program, "count", name)
    return Question(text, answers, f"{name}: {answers[0]}.", "count", 1, program)


def choose_objects(
    context: Context, *, video: bool, timed: bool, counted: bool, prefer: frozenset[int],
    accept: Callable[[Draft], bool],
) -> tuple[Draft | None, str, int]:  # fmt: skip
    """Draws the objects that a question or request is about.

    Args:
      video: whether the scene is a video; queries about its objects are about time or semantic.
      timed: whether queries about time may be drawn.
      counted: whether the query may match any number of objects, also none.
      prefer, accept: as in chains.best_draft.

    Returns:
      The draft with the objects, None if there is none, and the category and the level that were drawn.
    """
    about_time = timed and context.chance(_TEMPORAL)
    category = "temporal" if about_time else "semantic" if video else context.pick(("semantic", "spatial", "count"))
    level = context.pick(LEVELS)
    if about_time:
        kinds = (temporal.COUNTED_KINDS if counted else temporal.KINDS)[level]
    else:
        kinds = (pointing.COUNTED_KINDS if counted else pointing.KINDS)[category, level]
    return best_draft(context, kinds, prefer, accept), category, level


def _sample_answer_count(rng: np.random.Generator, kind: str) -> str:
    """Draws how many objects a question is about, so that "yes" and "no", and small numbers, are balanced."""
    if kind == "any":
        return "none" if rng.random() < 0.5 else pick(rng, ("one", "many"))
    return pick(rng, ("none", "one", "one", "many", "many", "many")) if kind == "count" else "one"


def _can_be_asked(draft: Draft, topic: str) -> bool:
    """Whether a question of a topic (a key of _TOPICS) about a draft is well formed and keeps its answer to itself."""
    if draft.whole or _words(draft) & _TOPICS[topic]:
        return False
    if topic in ("count", "any"):
        return draft.program[0] != _KNOWN[topic]
    is_one = len(draft.ids) == 1 and draft.text.startswith("the ")
    return is_one and not (topic == "kind" and _names_one_kind(draft.program))


def _words(draft: Draft) -> set[str]:
    return set(draft.text.replace(",", "").split())


def _names_one_kind(program: Program) -> bool:
    """Whether the objects of a program are of one known kind, for example because all of them tell the time."""
    if program[0] == "both":
        return any(_names_one_kind(part) for part in program[1:])
    if program[0] == "label":
        return len(program) == 2
    return len(program) > 1 and isinstance(program[1], tuple) and _names_one_kind(program[1])


def _number_question(context: Context, draft: Draft, topic: str) -> tuple[str, tuple[str, ...], str] | None:
    """Asks how many objects there are ("count"), or whether there are any ("any").

    Returns (question, answers, name of the last step); None if no sentence fits.
    """
    pool, answers, name = COUNT, (str(len(draft.ids)), NUMBERS[len(draft.ids)]), "count"
    if topic == "any":
        pool, answers, name = ANY, ("yes" if draft.ids else "no",), "found"
    text = sentence_about(context.rng, getattr(pool, context.split), draft.text.partition(" ")[2])  # no determiner
    return text and (text, answers, name)


def _answer_program(program: Program, kind: str, name: str) -> Program:
    """Returns the program of a question of a kind of `sample_question` about the objects of `program`.

    `name` is that of the question's last step. A word that may be written in two ways stands as (word, adjective).
    """
    if kind != "look":
        return ({"count": "number", "any": "any", "moves": "whether it moves", "way": "direction"}[kind], program)
    if name == "kind":
        return ("name", program)
    words = VALUES[tuple(LOOKS).index(name)]
    return ("which word", program, *((word, ADJECTIVES[word]) if word in ADJECTIVES else (word,) for word in words))


def _object_question(context: Context, draft: Draft, topic: str) -> tuple[str, tuple[str, ...], str] | None:
    """Asks what one object is or looks like (a key of LOOKS), whether it "moves", or which "way".

    Returns (question, answers, name of the last step); None if the question would contain its answer, if a person could
    doubt the answer, or if no sentence fits.
    """
    instance, answers = context.scene[draft.ids[0]], ()
    if topic in LOOKS:
        pool = LOOKS[topic]
        word = instance.label if topic == "kind" else instance.attributes[tuple(LOOKS).index(topic)]
        answers = (word, ADJECTIVES[word]) if word in ADJECTIVES else (word,)
    else:
        pool = MOVES if topic == "moves" else DIRECTION
        motion = cast(VideoContext, context).motions[instance.id]  # only videos have the other topics
        if topic == "moves" and motion.moves is not None:
            answers = ("yes" if motion.moves else "no",)
        elif topic == "way" and motion.direction:
            sideways = motion.direction in ("left", "right")
            answers = (motion.direction, f"to the {motion.direction}" if sideways else f"{motion.direction}wards")
    text = sentence_about(context.rng, getattr(pool, context.split), draft.text)
    return (text, answers, topic) if text and answers and not _words(draft) & set(answers) else None


def pools() -> Iterator[Phrases]:
    """Yields all phrases of this module, so that a test can check them."""
    yield from LOOKS.values()
    yield from (COUNT, ANY, DIRECTION, MOVES)
