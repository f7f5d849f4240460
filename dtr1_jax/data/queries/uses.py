"""The uses of objects: for each use, phrases of the training split and phrases of the held-out split.

A clause follows a noun ("the thing *that keeps tea hot*"); a need is a whole query. No phrase contains the label that
it means. Held-out phrases mostly rearrange words of the training phrases, so that they test understanding and not the
size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dtr1_jax.data.queries.phrases import Phrases


class Use(NamedTuple):
    """One use of objects.

    Attributes:
      name: the short name of the use in the oracle's reasoning.
      labels: the categories that serve this use.
      clauses: relative clauses.
      needs: whole queries.
    """

    name: str
    labels: tuple[str, ...]
    clauses: Phrases
    needs: Phrases


def _use(name, labels, train, heldout, needs_train, needs_heldout):
    return Use(name, tuple(labels.split()), Phrases(train, heldout), Phrases(needs_train, needs_heldout))


USES = (
    _use(
        "sweet",
        "apple",
        ("that is a fruit", "that is sweet to bite into", "you eat raw", "that falls ripe from a branch"),
        ("that is sweet to eat", "you bite into as a fruit"),
        ("we want to eat a sweet fruit.", "a hungry child wants a bite of fruit."),
        ("what fruit is there to eat?",),
    ),
    _use(
        "flies",
        "bird",
        ("that flies with wings", "that lays eggs in a nest", "that sings in the morning", "with a beak"),
        ("that has wings and sings", "that sings with its beak"),
        ("what can fly and sing?", "which one builds a nest?"),
        ("what lays eggs and flies?",),
    ),
    _use(
        "sails",
        "boat",
        ("that sails on a lake", "that carries people over water", "you row or sail", "that needs a harbour"),
        ("that people sail over a lake", "you sail over water"),
        ("how do we cross the lake?", "we want to sail today."),
        ("how do people sail over the lake?",),
    ),
    _use(
        "read",
        "book",
        ("you read", "that is full of pages", "that tells a story", "you borrow at the library"),
        ("with pages that you read", "full of a story to read"),
        ("we want to read a story.", "what has pages?"),
        ("what tells a story in pages?",),
    ),
    _use(
        "pour",
        "bottle",
        ("you pour from", "that holds wine", "that keeps a cork or a cap on top", "with a cork in its neck"),
        ("with a cap that you pour from", "that holds wine to pour"),
        ("what is the wine kept in?", "pour us some wine."),
        ("what do we pour the wine from?",),
    ),
    _use(
        "drive",
        "car",
        ("you drive on the road", "that has an engine", "that you park in a garage", "with four wheels"),
        ("with wheels and an engine", "that you drive and park"),
        ("we want to drive to town.", "what needs a garage and fuel?"),
        ("what has an engine to drive us?",),
    ),
    _use(
        "sit",
        "chair",
        ("you sit on", "that gives you a seat", "you pull up to a table", "that a tired person wants"),
        ("that is a seat at a table", "a tired person sits on"),
        ("where can a tired person sit?", "please take a seat."),
        ("what can you sit on at a table?",),
    ),
    _use(
        "time",
        "clock",
        ("that tells the time", "that wakes you up", "that shows the hour", "that ticks all day"),
        ("that ticks and shows the time", "that tells you the hour"),
        ("what time is it?", "it must ring and wake us at six."),
        ("what shows us the hour?",),
    ),
    _use(
        "swims",
        "fish",
        ("that swims", "that breathes under water", "that has fins", "you catch with a hook"),
        ("with fins that swims", "that lives and swims under water"),
        ("what lives in the sea?", "what did he catch with a hook?"),
        ("what swims in the sea with fins?",),
    ),
    _use(
        "music",
        "guitar",
        ("that makes music", "that has strings", "you play a song on", "you tune before you play"),
        ("with strings that makes music", "you play music on"),
        ("play us a song.", "the band needs its strings."),
        ("what has strings to play a song?",),
    ),
    _use(
        "nails",
        "hammer",
        ("that drives nails", "you hit a nail with", "that a carpenter swings", "you pound with"),
        ("that a carpenter hits nails with", "you swing at a nail"),
        ("this nail must go into the wall.", "the carpenter wants to pound."),
        ("what drives a nail into the wall?",),
    ),
    _use(
        "head",
        "hat",
        ("you wear on your head", "that belongs on top of your hair", "with a brim", "you lift to greet"),
        ("with a brim to keep the sun off", "that your head wears"),
        ("my head is cold.", "what goes on a head?"),
        ("what do you wear on a cold head?",),
    ),
    _use(
        "home",
        "house",
        ("a family lives in", "that has rooms", "with a chimney and a front door", "that is a home"),
        ("with rooms that a family calls home", "that has a chimney and rooms"),
        ("where does the family live?", "what has a chimney and rooms?"),
        ("what is the home of a family?",),
    ),
    _use(
        "unlock",
        "key",
        ("that opens a lock", "you turn in a door", "a locked door waits for", "you carry on a ring"),
        ("that you turn in a lock", "that opens a locked door"),
        ("the door is locked.", "what opens the lock?"),
        ("what do you turn to open a locked door?",),
    ),
    _use(
        "light",
        "lamp",
        ("that lights the room", "you switch on in the dark", "that needs a bulb", "that glows at night"),
        ("with a bulb that glows", "that lights up the dark at night"),
        ("it is too dark in here.", "switch the light on."),
        ("what lights a dark room?",),
    ),
    _use(
        "drink",
        "mug",
        ("you drink from", "that keeps tea hot", "that holds hot coffee", "you sip cocoa from"),
        ("that you sip hot tea from", "that holds coffee to drink"),
        ("where is my hot tea?", "the coffee is ready to drink."),
        ("what can we drink hot coffee from?",),
    ),
    _use(
        "cut",
        "scissors",
        ("that cut paper", "with two blades", "you trim hair with", "that a tailor snips with"),
        ("with blades that cut", "you cut hair and paper with"),
        ("this paper must be cut.", "my hair is too long."),
        ("what can cut hair or paper?",),
    ),
    _use(
        "foot",
        "shoe",
        ("you wear on a foot", "with laces", "you walk in", "that has a sole"),
        ("with a sole and laces", "your foot wears to walk"),
        ("my foot is cold.", "what has laces and a sole?"),
        ("what do you wear to walk?",),
    ),
    _use(
        "grows",
        "tree",
        ("that grows in a forest", "that has roots", "that squirrels climb", "with branches"),
        ("with roots and branches", "that has roots and grows"),
        ("what grows in the forest?", "where do squirrels climb?"),
        ("what has roots in the garden?",),
    ),
    _use(
        "rain",
        "umbrella",
        ("that keeps the rain off", "you open when it rains", "you carry on a wet day", "that keeps you dry"),
        ("that keeps you dry on a wet day", "you open to keep the rain off"),
        ("it is raining outside.", "how do we stay dry in the rain?"),
        ("what keeps us dry when it rains?",),
    ),
)

GROUPS = (
    _use(
        "alive",
        "bird fish tree",
        ("that is alive", "that is a living being", "that grows and needs food"),
        ("that is living", "that lives and needs food"),
        ("what is alive here?",),
        ("what here is a living being?",),
    ),
    _use(
        "wear",
        "hat shoe",
        ("you can wear", "you put on before you go out", "that is worn"),
        ("that you wear to go out", "you put on and wear"),
        ("what can we wear?",),
        ("what do you put on to go out?",),
    ),
    _use(
        "travel",
        "boat car",
        ("you travel in", "that takes people far", "that carries passengers"),
        ("that people travel far in", "that takes passengers"),
        ("how can we travel?",),
        ("what takes people to travel far?",),
    ),
    _use(
        "tool",
        "hammer scissors",
        ("that is a tool", "that belongs in a tool box", "you do hard hand work with"),
        ("that is a hand tool", "you work with as a tool"),
        ("bring the tools.",),
        ("what tools are in the box?",),
    ),
    _use(
        "water",
        "boat fish",
        ("that belongs on or in the water", "you find at sea", "that moves through water"),
        ("that you find in the water", "that moves at sea"),
        ("what is at home in water?",),
        ("what moves in or on the sea?",),
    ),
    _use(
        "kitchen",
        "apple bottle mug",
        ("that belongs in a kitchen", "you find at breakfast", "that is food or holds a drink"),
        ("that you find in a kitchen", "that is for breakfast"),
        ("set the table for breakfast.",),
        ("what is for the kitchen table?",),
    ),
)

BY_LABEL = {use.labels[0]: use for use in USES}


def pools() -> Iterator[Phrases]:
    """Yields all phrases of this module, so that a test can check them."""
    for use in USES + GROUPS:
        yield use.clauses
        yield use.needs
