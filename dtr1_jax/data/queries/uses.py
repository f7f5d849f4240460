"""The uses of objects: for each use, phrases of the training, the held-out and the validation split.

A clause follows a noun ("the thing *that keeps tea hot*"); a need is a whole query: a statement, a command, or a
question that one answers by pointing ("where ...?"). No phrase contains the label that it means. Phrases of the other
splits mostly rearrange words of the training phrases, so that they test understanding and not the size of the
vocabulary.
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


def _use(name, labels, train, heldout, validation, needs_train, needs_heldout, needs_validation):
    clauses, needs = Phrases(train, heldout, validation), Phrases(needs_train, needs_heldout, needs_validation)
    return Use(name, tuple(labels.split()), clauses, needs)


USES = (
    _use(
        "sweet",
        "apple",
        ("that is a fruit", "that is sweet to bite into", "you eat raw", "that falls ripe from a branch"),
        ("that is sweet to eat", "you bite into as a fruit"),
        ("with a sweet bite", "that falls from a branch, sweet and ripe"),
        ("we want to eat a sweet fruit.", "a hungry child wants a bite of fruit."),
        ("look for a fruit to eat.",),
        ("spot a fruit for a hungry child to eat.",),
    ),
    _use(
        "flies",
        "bird",
        ("that flies with wings", "that lays eggs in a nest", "that sings in the morning", "with a beak"),
        ("that has wings and sings", "that sings with its beak"),
        ("that sings in a nest", "with wings and a beak"),
        ("find what can fly and sing.", "show me what builds a nest."),
        ("look for what lays eggs and flies.",),
        ("spot what sings in the nest.",),
    ),
    _use(
        "sails",
        "boat",
        ("that sails on a lake", "that carries people over water", "you row or sail", "that needs a harbour"),
        ("that people sail over a lake", "you sail over water"),
        ("that carries us over the lake", "you row over the lake"),
        ("we want to cross the lake.", "we want to sail today."),
        ("people want to sail over the lake.",),
        ("spot what carries people over the water.",),
    ),
    _use(
        "read",
        "book",
        ("you read", "that is full of pages", "that tells a story", "you borrow at the library"),
        ("with pages that you read", "full of a story to read"),
        ("that has pages with a story", "from the library to read"),
        ("we want to read a story.", "find what has pages."),
        ("look for what tells a story in pages.",),
        ("spot what we read a story in.",),
    ),
    _use(
        "pour",
        "bottle",
        ("you pour from", "that holds wine", "that keeps a cork or a cap on top", "with a cork in its neck"),
        ("with a cap that you pour from", "that holds wine to pour"),
        ("that has a cork on top of wine", "you pour wine from"),
        ("find what the wine is kept in.", "pour us some wine."),
        ("look for what we pour the wine from.",),
        ("spot what has a cork in its neck.",),
    ),
    _use(
        "drive",
        "car",
        ("you drive on the road", "that has an engine", "that you park in a garage", "with four wheels"),
        ("with wheels and an engine", "that you drive and park"),
        ("that has wheels to drive on", "you park by the road"),
        ("we want to drive to town.", "find what needs a garage and fuel."),
        ("look for what has an engine to drive us.",),
        ("spot what you park in town.",),
    ),
    _use(
        "sit",
        "chair",
        ("you sit on", "that gives you a seat", "you pull up to a table", "that a tired person wants"),
        ("that is a seat at a table", "a tired person sits on"),
        ("that a person sits on at the table", "with a seat for the tired"),
        ("where can a tired person sit?", "please take a seat."),
        ("where can you sit at a table?",),
        ("spot what gives a tired person a seat.",),
    ),
    _use(
        "time",
        "clock",
        ("that tells the time", "that wakes you up", "that shows the hour", "that ticks all day"),
        ("that ticks and shows the time", "that tells you the hour"),
        ("that ticks until it wakes you", "with the hour on it"),
        ("show me what tells the time.", "it must ring and wake us at six."),
        ("look for what shows us the hour.",),
        ("spot what ticks and wakes us.",),
    ),
    _use(
        "swims",
        "fish",
        ("that swims", "that breathes under water", "that has fins", "you catch with a hook"),
        ("with fins that swims", "that lives and swims under water"),
        ("that breathes and lives in the sea", "that you catch in the lake"),
        ("find what lives in the sea.", "show me what you catch with a hook."),
        ("look for what swims in the sea with fins.",),
        ("spot what breathes under water.",),
    ),
    _use(
        "music",
        "guitar",
        ("that makes music", "that has strings", "you play a song on", "you tune before you play"),
        ("with strings that makes music", "you play music on"),
        ("you tune to play music", "that plays a song with its strings"),
        ("play us a song.", "the band needs its strings."),
        ("look for what has strings to play a song.",),
        ("spot what you tune to play a song.",),
    ),
    _use(
        "nails",
        "hammer",
        ("that drives nails", "you hit a nail with", "that a carpenter swings", "you pound with"),
        ("that a carpenter hits nails with", "you swing at a nail"),
        ("that pounds nails into the wall", "that hits nails for a carpenter"),
        ("this nail must go into the wall.", "the carpenter wants to pound."),
        ("look for what drives a nail into the wall.",),
        ("spot what a carpenter swings.",),
    ),
    _use(
        "head",
        "hat",
        ("you wear on your head", "that belongs on top of your hair", "with a brim", "you lift to greet"),
        ("with a brim to keep the sun off", "you wear on a cold head"),
        ("that sits on top of a head", "you wear on top of your hair"),
        ("my head is cold.", "find what goes on a head."),
        ("look for what you wear on a cold head.",),
        ("spot what has a brim.",),
    ),
    _use(
        "home",
        "house",
        ("a family lives in", "that has rooms", "with a chimney and a front door", "that is a home"),
        ("with rooms that a family calls home", "that has a chimney and rooms"),
        ("with a front door and rooms", "that people live in"),
        ("where does the family live?", "find what has a chimney and rooms."),
        ("where is the home of a family?",),
        ("spot what has rooms for a family.",),
    ),
    _use(
        "unlock",
        "key",
        ("that opens a lock", "you turn in a door", "a locked door waits for", "you carry on a ring"),
        ("that you turn in a lock", "that opens a locked door"),
        ("you open the door with", "that goes in a lock"),
        ("the door is locked.", "find what opens the lock."),
        ("look for what you turn to open a locked door.",),
        ("spot what waits on a ring for the lock.",),
    ),
    _use(
        "light",
        "lamp",
        ("that lights the room", "you switch on in the dark", "that needs a bulb", "that glows at night"),
        ("with a bulb that glows", "that lights up the dark at night"),
        ("you switch on at night", "that has a bulb for the room"),
        ("it is too dark in here.", "switch the light on."),
        ("look for what lights a dark room.",),
        ("spot what we switch on at night.",),
    ),
    _use(
        "drink",
        "mug",
        ("you drink from", "that keeps tea hot", "that holds hot coffee", "you sip cocoa from"),
        ("that you sip hot tea from", "that holds coffee to drink"),
        ("with hot cocoa in it", "that you drink tea from"),
        ("where is my hot tea?", "the coffee is ready to drink."),
        ("look for what we can drink hot coffee from.",),
        ("spot what you sip coffee from.",),
    ),
    _use(
        "cut",
        "scissors",
        ("that cuts paper", "with two blades", "you trim hair with", "that a tailor snips with"),
        ("with blades that cut", "you cut hair and paper with"),
        ("a tailor cuts with", "that trims and snips"),
        ("this paper must be cut.", "my hair is too long."),
        ("look for what can cut hair or paper.",),
        ("spot what has two blades.",),
    ),
    _use(
        "foot",
        "shoe",
        ("you wear on a foot", "with laces", "you walk in", "that has a sole"),
        ("with a sole and laces", "you wear on a foot to walk"),
        ("you lace on your foot", "that has laces to walk in"),
        ("my foot is cold.", "find what has laces and a sole."),
        ("look for what you wear to walk.",),
        ("spot what goes on a foot.",),
    ),
    _use(
        "grows",
        "tree",
        ("that grows in a forest", "that has roots", "that squirrels climb", "with branches"),
        ("with roots and branches", "that has roots and grows"),
        ("that has branches in a forest", "with roots in the garden"),
        ("find what grows in the forest.", "where do squirrels climb?"),
        ("look for what has roots in the garden.",),
        ("spot what has branches for squirrels.",),
    ),
    _use(
        "rain",
        "umbrella",
        ("that keeps the rain off", "you open when it rains", "you carry on a wet day", "that keeps you dry"),
        ("that keeps you dry on a wet day", "you open to keep the rain off"),
        ("you carry in the rain", "that opens on a wet day"),
        ("it is raining outside.", "we want to stay dry in the rain."),
        ("look for what keeps us dry when it rains.",),
        ("spot what you open on a wet day.",),
    ),
)

GROUPS = (
    _use(
        "alive",
        "bird fish tree",
        ("that is alive", "that is a living being", "that grows and needs food"),
        ("that is living", "that lives and needs food"),
        ("that grows and is alive", "which is a living being"),
        ("show me what is alive here.",),
        ("look for what is a living being here.",),
        ("spot what is alive.",),
    ),
    _use(
        "wear",
        "hat shoe",
        ("you can wear", "you put on before you go out", "that is worn"),
        ("that you wear to go out", "you put on and wear"),
        ("that is worn when you go out", "which you put on"),
        ("show me what we can wear.",),
        ("look for what you put on to go out.",),
        ("spot what is worn here.",),
    ),
    _use(
        "travel",
        "boat car",
        ("you travel in", "that takes people far", "that carries passengers"),
        ("that people travel far in", "that takes passengers"),
        ("which carries people far", "you travel far with"),
        ("we want to travel.",),
        ("look for what takes people to travel far.",),
        ("spot what carries passengers.",),
    ),
    _use(
        "tool",
        "hammer scissors",
        ("that is a tool", "that belongs in a tool box", "you do hard hand work with"),
        ("that is a hand tool", "you work with as a tool"),
        ("from the tool box", "that is for hard work by hand"),
        ("bring the tools.",),
        ("look for the tools of the box.",),
        ("spot what belongs in the tool box.",),
    ),
    _use(
        "water",
        "boat fish",
        ("that belongs on or in the water", "you find at sea", "that moves through water"),
        ("that you find in the water", "that moves at sea"),
        ("which is at home in the sea", "that belongs at sea"),
        ("show me what is at home in water.",),
        ("look for what moves in or on the sea.",),
        ("spot what you find in the water.",),
    ),
    _use(
        "kitchen",
        "apple bottle mug",
        ("that belongs in a kitchen", "you find at breakfast", "that is food or holds a drink"),
        ("that you find in a kitchen", "that is for breakfast"),
        ("which you find on the kitchen table", "at home in the kitchen"),
        ("set the table for breakfast.",),
        ("look for what is for the kitchen table.",),
        ("spot what is there for breakfast.",),
    ),
)

BY_LABEL = {use.labels[0]: use for use in USES}


def pools() -> Iterator[Phrases]:
    """Yields all phrases of this module, so that a test can check them."""
    for use in USES + GROUPS:
        yield use.clauses
        yield use.needs
