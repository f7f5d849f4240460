"""Questions about a scene or video with a short answer in words, and the oracle's reasoning.

A question is made of what a query means (queries.py, temporal.py): how many there are, whether there are any, or what
the one is, how it looks and which way it goes. The reasoning is the query's, with the answer as its last step.
Training has some in the words of queries that point, as some of those are in the words of questions (phrases.FRAMES).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.data.queries import pointing, temporal
from dtr1_jax.data.queries.chains import Asker, Draft, choose, everything
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import WAYS
from dtr1_jax.data.queries.phrases import ADJECTIVES, Phrases
from dtr1_jax.types import Instance

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TRIES = 6  # kinds of question drawn before all objects are counted
_TEMPORAL = 0.75  # share of the questions of a video that are about time
_LEVELS = (1, 2, 3, 4)

COUNT = Phrases(
    ("count every {}.", "what do you get if you count every {}?", "how many do you get if you count every {}?"),
    ("if you count every {}, what do you get?",),
)
# not "any", which queries of the held-out split have for "every"
ANY = Phrases(("is there some {}?", "can you see some {} here?", "say if there is some {}."), ("do you see some {}?",))
LOOKS = {  # name of the last step: words; the order is that of Instance.attributes
    "colour": Phrases(
        (
            "what colour is {}?",
            "what is the colour of {}?",
            "name the colour of {}.",
            "which colour is {}?",
            "what colour does {} have?",
        ),
        ("which colour does {} have?",),
    ),
    "size": Phrases(
        ("is {} small or large?", "say if {} is small or large.", "say if {} is large or small."),
        ("is {} large or small?",),
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
    ),
    "kind": Phrases(
        (
            "what is {}?",
            "what kind of thing is {}?",
            "name the kind of {}.",
            "{}.",
            "find {}.",
            "show me {}.",
            "which one is {}?",
            "which kind is {}?",
        ),
        ("which kind of thing is {}?",),
    ),
}
WAY = Phrases(
    (
        "which way does {} move?",
        "where does {} go, left, right, up or down?",
        "name the way {} moves.",
        "name the way {} is moving.",
        "which way does {} go?",
        "which way is {} going?",
    ),
    ("which way is {} moving?",),
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
)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question with its answer.

    Attributes:
      text: the user's words.
      answers: all ways to say the answer that are right, the oracle's first.
      thought: steps "how: ids.", the last one "how: answer.".
      category, level: as in types.Example.
    """

    text: str
    answers: tuple[str, ...]
    thought: str
    category: str
    level: int


def question(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    *,
    video: bool = False,
    prefer: frozenset[int] = frozenset(),
) -> Question:
    """A question about a scene, of a drawn kind; one that can be answered is always found.

    Args:
      split: "train" or "heldout", whose phrasings are used.
      scene: the objects, of a `video` with boxes over time.
      prefer: ids of which the question should be about one, if possible.
    """
    for _ in range(_TRIES):
        kind = pick(rng, ("count", "any", "look", "look", "way" if video else "look", "moves" if video else "count"))
        want = _want(rng, kind)
        a = temporal.watcher(rng, split, scene, want) if video else Asker(rng, split, {t.id: t for t in scene}, want)
        counted, timed = kind in ("count", "any"), video and kind in ("count", "any", "look")
        accept = _plain if counted else _single
        draft, category, level = meant(a, video=video, timed=timed, counted=counted, prefer=prefer, accept=accept)
        found = draft and (_number(a, draft, kind) if counted else _one(a, draft, kind))
        if found:
            text, answers, how = found
            category = "temporal" if kind in ("way", "moves") else category
            return Question(text, answers, " ".join((*draft.steps, f"{how}: {answers[0]}.")), category, level)
    a = Asker(rng, split, {t.id: t for t in scene}, "many")
    text, answers, how = _number(a, dataclasses.replace(everything(a), text="every thing"), "count")
    return Question(text, answers, f"{how}: {answers[0]}.", "count", 1)


def meant(
    a: Asker, *, video: bool, timed: bool, counted: bool, prefer: frozenset[int], accept: Callable[[Draft], bool]
) -> tuple[Draft | None, str, int]:
    """Objects that a question is to be about, if any were found, and the category and level that were drawn.

    Args:
      video: whether the scene is a video, whose other objects than by time are meant by what they are.
      timed: whether they may be meant by time.
      counted: whether there may be none, one or several of them.
      prefer, accept: as of chains.choose.
    """
    about_time = timed and a.chance(_TEMPORAL)
    category = "temporal" if about_time else "semantic" if video else a.pick(("semantic", "spatial", "count"))
    level = a.pick(_LEVELS)
    if about_time:
        kinds = (temporal.COUNTED if counted else temporal.KINDS)[level]
    else:
        kinds = (pointing.COUNTED if counted else pointing.KINDS)[category, level]
    return choose(a, kinds, prefer, accept), category, level


def _want(rng: np.random.Generator, kind: str) -> str:
    """How many objects the question should be about: yes and no come about as often, and so do small numbers."""
    if kind == "any":
        return "none" if rng.random() < 0.5 else pick(rng, ("one", "many"))
    return pick(rng, ("none", "one", "one", "many", "many", "many")) if kind == "count" else "one"


def _plain(draft: Draft) -> bool:
    return not draft.whole


def _single(draft: Draft) -> bool:
    return not draft.whole and len(draft.ids) == 1 and draft.text.startswith("the ")


def _number(a: Asker, draft: Draft, kind: str) -> tuple[str, tuple[str, ...], str]:
    """(question, answers, last step) of how many there are, or whether there are any."""
    rest = draft.text.partition(" ")[2]  # without "the", "every" or "any"
    if kind == "any":
        return a.say(ANY, rest), ("yes" if draft.ids else "no",), "found"
    return a.say(COUNT, rest), (str(len(draft.ids)), NUMBERS[len(draft.ids)]), "count"


def _one(a: Asker, draft: Draft, kind: str) -> tuple[str, tuple[str, ...], str] | None:
    """The same of what one object is, how it looks or moves; None where the question would say it itself."""
    thing, said = a.scene[draft.ids[0]], set(draft.text.replace(",", "").split())
    if kind == "look":
        how = a.pick(tuple(LOOKS))
        word = thing.label if how == "kind" else thing.attributes[tuple(LOOKS).index(how)]
        answers = (word, ADJECTIVES[word]) if word in ADJECTIVES else (word,)
        return None if said & set(answers) else (a.say(LOOKS[how], draft.text), answers, how)
    move = a.moves[thing.id]
    if kind == "moves":
        return None if move.moves is None else (a.say(MOVES, draft.text), ("yes" if move.moves else "no",), "moves")
    if not move.way or said & {*WAYS, "top", "bottom"}:
        return None
    toward = f"to the {move.way}" if move.way in WAYS[:2] else f"{move.way}wards"
    return a.say(WAY, draft.text), (move.way, toward), "way"


def pools():
    """Yields every Phrases of this module, for checks over all of them."""
    yield from LOOKS.values()
    yield from (COUNT, ANY, WAY, MOVES)
