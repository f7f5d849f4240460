"""A reader of generated queries that knows the forms of English, and none of the generator's tables.

`faults` says what is wrong with a query in the words of a person: a form that does not fit the answer, words that stand
twice, a verb that does not agree with its subject, a plural for one thing, an answer that the question gives away.
"""

import re

POINTING = re.compile(
    r"(please )?(find|show( me)?|point (to|at)|select|look (at|for)|mark|spot) \w.*\.$"  # commands
    r"|(the|every|any|each) \w.*\.$"  # a noun phrase alone
    r"|where (is|can|does|do) .*\?$|which (pixels show|one is|thing is) .*\?$"
    r"|(we want|a hungry child wants|people want|it must|it is|this|my|the) .*\.$"  # a need
    r"|(pour|play|bring|switch|set|please take) .*\.$"
)
SPEAKING = re.compile(
    r"(what|which) (is|colour|material|kind|way) .*\?$|(what|how many) do you get if .*\?$"
    r"|where does .* go, left, .*\?$"
    r"|(is there|can you see|do you see) some .*\?$|(is|does) the .*\?$|(count|name the|say|if you count) .*[.?]$"
    r"|if you count .*\?$"
)
TELLING = re.compile(r"(please )?(describe|say|tell us) .*\.$|what (happens|can be seen) .*\?$")

# Base form -> third person singular, of the verbs that may follow "that", "which" or "and" in a relative clause.
_VERBS = {
    **{word: word + "s" for word in """appear belong breathe bring come cut drive eat enter fall get give glow grow hit
        hold keep lay leave light live look make move need open play pound row sail show sing sip sit snip stay swim
        take tell tick trim turn wake want wait wear""".split()},
    "be": "is", "have": "has", "carry": "carries", "do": "does", "fly": "flies", "go": "goes",
}  # fmt: skip
_SINGULAR = set(_VERBS.values()) | {"was", "alone"}
_SUBJECTS = set("you we people squirrels a an the your no your never of".split())
_ASKED = "colour|kind|material|way|pixels|one|thing"  # nouns after "which" in a question
_RELATIVE = re.compile(rf"(?<!all )(?<!those )(?<!blades )\b(?:that|which(?! (?:{_ASKED})\b)|whichever) (\w+)")
_SECOND = re.compile(r"\b(?:that|which) (\w+)(?: (?!that\b|which\b)[\w']+)*? and (?:then )?(\w+)")
_DOUBLED = re.compile(r"\b(\w+(?: \w+){0,2}),? \1\b")
_OPEN_APPOSITION = re.compile(
    r", the [^,]*\b(?:one|of all|that (?:is|moves|comes|leaves) [^,]*) "
    r"(?:have|has|made|small|large|(?<!that )move|go|looks?|does)\b"
)
_NUMBERS = {"1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven"}


def faults(query: str, task: str, answers: tuple[str, ...] = (), count: int | None = None) -> list[str]:
    """What is wrong with a query in lower case; an empty list if nothing is.

    Args:
      task: segmentation, grounding, vqa or summary.
      answers: the right answers of a vqa question.
      count: number of target objects of a query that points.
    """
    found = []
    forms = {"vqa": SPEAKING, "summary": TELLING}.get(task, POINTING)
    if not forms.match(query):
        found.append("form")
    if match := _DOUBLED.search(query):
        found.append(f"doubled: {match[1]}")
    if _OPEN_APPOSITION.search(query):
        found.append("no comma closes the apposition")
    for word in ("colour", "material", "made of", "kind of"):
        if query.count(word) > 1:
            found.append(f"twice: {word}")
    found += _disagreements(query)
    if count is not None:
        if count > 1 and re.match(r"(.*? )?(the|which one|which thing is) ", query) and _names_one(query):
            found.append("singular for several")
    words = set(re.findall(r"\w+", query))
    if task == "vqa" and not _offers_choice(query, answers):
        given = words & {w for a in answers for w in (*a.split(), _NUMBERS.get(a, ""))} - {"to", "the", ""}
        if given:
            found.append(f"gives away: {given}")
    return found


def _names_one(query: str) -> bool:
    """Whether the first noun phrase of the query is about one thing: "the thing", "the red object"."""
    match = re.match(r"(?:[a-z]+ ){0,3}?(the|every|any|each) (?:\w+ ){0,3}?(?:thing|object)\b", query)
    return bool(match) and match[1] == "the"


def _offers_choice(query: str, answers: tuple[str, ...]) -> bool:
    """Whether the question names all possible answers once, such as "small or large"."""
    sizes = len(re.findall(r"\b(small|large)\b", query)) == 2 and bool({"small", "large"} & set(answers))
    return sizes or query.endswith("go, left, right, up or down?")


def _disagreements(query: str) -> list[str]:
    found = []
    for word in _RELATIVE.findall(query):
        if word not in _SINGULAR | _SUBJECTS:
            found.append(f"a relative clause begins with {word!r}")
    for first, second in _SECOND.findall(query):
        if first in _SINGULAR and second in _VERBS and second not in _SINGULAR:
            found.append(f"{first} ... and {second}")
    if match := re.search(r"(?<!wakes )\b(you|we|people|squirrels) (\w+s)\b", query):
        if match[2] in _SINGULAR - {"does"}:
            found.append(match[0])
    return found
