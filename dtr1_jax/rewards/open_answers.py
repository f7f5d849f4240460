"""What a short answer says, without the sentence, the marks and the spelling around it.

"**Grey**", "It is gray." and "I think it's gray" all say "gray". Only a frame whose words say nothing else is taken
off, and what is left must be the whole answer: "gray or red", "not gray" and a list of all colours stay as they are.
"""

from __future__ import annotations

import re

from dtr1_jax.evaluation.benchmarks import vqa as benchmark
from dtr1_jax.rewards.text_metrics import clean

_LONGEST = 400  # characters; a longer answer is no short answer, and keeps its frame
_QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a"
_MARKDOWN = re.compile(r"[*`#~]+|(?<![^\W_])_+|_+(?![^\W_])")
_BOXED = re.compile(r"\\?\b(?:boxed|text|textbf|mathrm)\s*\{([^{}]*)\}")
_IS = (
    r"(?:is|are|was|were|would be|must be|should be|might be|could be|may be|has to be|looks? like"
    r"|looks?|seems? (?:to be|like)|seems?|appears? to be)"
)
_IT = r"(?:it|this|that|he|she|they|these|those|there|what i see)"
_THINK = (
    r"(?:i|we|you)(?: would| could| can| do| am| are)?(?: (?:really|strongly|pretty|quite|fairly|very))?"
    r" (?:think|believe|guess|suppose|assume|say|see|sure|confident|certain)(?: that)?"
)
_NO_SUBJECT = (  # words with which a sentence says more, or something else, than its last word
    "is|are|was|were|not|no|and|or|but|never|nothing|wrong|false|incorrect|opposite|isn't|aren't|other|only|except|than"
)
_OPENERS = tuple(
    re.compile(pattern + r"[\s:,=-]*(?=\S)", re.IGNORECASE)
    for pattern in (
        r"^(?:well|so|ok|okay|hmm+|um+|uh+|sure|here|therefore|thus|hence|maybe|perhaps|probably|most likely)\b"
        r"(?=[\s,:])",
        rf"^{_THINK}\b",
        rf"^{_IT} {_IS}\b",
        r"^(?:the |my )?(?:(?:final|correct|right|best|short) )?(?:answer|response|result|guess)"
        r"(?: to (?:the|this) question)?(?: (?:is|would be|must be)\b|\s*[:=-])",
        # "The colour of the mug is", "The mug is".
        rf"^(?:the|its|his|her|their|this|that) (?:(?!(?:{_NO_SUBJECT})\b)[\w'-]+ ){{1,6}}(?:is|are|was|were)\b(?! ?:)",
        r"^(?:a )?(?:photo|picture|image) of\b",
        r"^(?:the|this) (?:photo|picture|image|video|scene) (?:shows?|depicts?|contains?|has)\b",
    )
)
_CLOSERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"[,\s]+{_THINK}$",
        r"[,\s]+in (?:the|this) (?:picture|image|photo|video|scene)$",
        r"\s+in colou?r$",
        r"[,\s]+(?:please|probably|maybe|perhaps)$",
    )
)
_SHORT_FORMS = re.compile(r"\b(it|that|this|there|he|she|what|i|they|we|these|those)'(s|m|re|d)\b", re.IGNORECASE)
_LONG_FORMS = {"s": "is", "m": "am", "re": "are", "d": "would"}

# Stems of words in -our and -re (colour, metre), and of verbs in -ise (organise).
_OUR = (
    "arm behavi clam col endeav fav ferv flav glam harb hon hum lab neighb od parl rig rum sav splend tum val vap vig"
).split()
_RE = "calib cent fib lit lust met centimet millimet kilomet somb spect theat".split()
_ISE = re.compile(
    r"(organ|recogn|real|special|symbol|custom|modern|author|stabil|minim|maxim|summar|emphas|polar|normal|steril|motor"
    r"|color|public|civil)is(e|ed|es|ing|ation)"
)
# Other words of two spellings, and materials as adjectives and nouns.
_PAIRS = """
    grey gray, greyish grayish, greys grays, aluminium aluminum, tyre tire, tyres tires, pyjamas pajamas,
    pyjama pajama, jewellery jewelry, moustache mustache, moustaches mustaches, doughnut donut, doughnuts donuts,
    kerb curb, kerbs curbs, mould mold, mouldy moldy, moulds molds, plough plow, ploughs plows, axe ax,
    catalogue catalog, dialogue dialog, programme program, programmes programs, analogue analog, cosy cozy,
    sceptical skeptical, defence defense, offence offense, licence license, practise practice, storey story,
    storeys stories, draught draft, yoghurt yogurt, yoghourt yogurt, omelette omelet, mum mom, manoeuvre maneuver,
    aeroplane airplane, aeroplanes airplanes, artefact artifact, artefacts artifacts, travelling traveling,
    traveller traveler, travellers travelers, jewelled jeweled, levelled leveled, marvellous marvelous,
    cancelled canceled, labelled labeled, modelling modeling, pedalling pedaling, ageing aging, judgement judgment,
    sulphur sulfur, whisky whiskey, chilli chili, barbeque barbecue, neighbourhood neighborhood, analyse analyze,
    analysed analyzed, woollen wool, woolen wool, wooden wood, metallic metal, golden gold
"""
_TEENS = "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
_TENS = "thirty forty fifty sixty seventy eighty ninety".split()


def _spellings() -> dict[str, str]:
    table = dict(pair.split() for pair in " ".join(_PAIRS.split()).split(", "))
    for ending in ("", "s", "ed", "ing", "ful", "less", "ite", "able", "er"):
        table |= {f"{stem}our{ending}": f"{stem}or{ending}" for stem in _OUR}
    for ending in ("", "s"):
        table |= {f"{stem}re{ending}": f"{stem}er{ending}" for stem in _RE}
    numbers = {word: str(11 + i) for i, word in enumerate(_TEENS)}
    return table | numbers | {word: str(30 + 10 * i) for i, word in enumerate(_TENS)}


_SPELLING = _spellings()


def american(word: str) -> str:
    """The form of a word that is compared: grey -> gray, colour -> color, wooden -> wood, twelve -> 12."""
    word = _SPELLING.get(word, word)
    verb = _ISE.fullmatch(word)
    return f"{verb[1]}iz{verb[2]}" if verb else word


def plain(text: str) -> str:
    """A cleaned text without markdown, LaTeX boxes, and quotation marks around the whole."""
    text = _MARKDOWN.sub(" ", _BOXED.sub(r" \1 ", clean(text)).replace("$", " "))
    text = " ".join(text.replace("\u2019", "'").split())
    while True:
        inside = text.rstrip(".!,")
        if len(inside) < 2 or inside[0] not in _QUOTES or inside[-1] not in _QUOTES:
            return text
        text = inside[1:-1].strip()


def core(text: str) -> str:
    """The answer inside a sentence; the text itself where there is no frame that says nothing."""
    text = plain(text)
    if len(text) > _LONGEST:
        return text
    text = _SHORT_FORMS.sub(lambda match: f"{match[1]} {_LONG_FORMS[match[2].lower()]}", text).rstrip(" .!,")
    for _ in range(4):
        before = text
        for opener in _OPENERS:
            text = opener.sub("", text, count=1)
        for closer in _CLOSERS:
            text = closer.sub("", text, count=1) or text
        text = plain(text).rstrip(" .!,")
        if text == before:
            break
    return text


def answer_words(text: str) -> list[str]:
    """The words of a text as answers are compared: after `benchmark.normalise`, in American spelling."""
    return [american(word) for word in benchmark.normalise(plain(text)).split()]


def same_answer(answer: str, reference: str) -> bool:
    """Whether two short answers say the same; an answer without words says nothing."""
    words = answer_words(core(answer))
    same = benchmark.exact(answer, reference) or words == answer_words(core(reference))
    return bool(words) and same
