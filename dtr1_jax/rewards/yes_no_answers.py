"""Whether an answer says yes or no.

    yes                      yes, yeah, y, true, correct, sure, "of course", "no doubt, yes", "it is", "I think so"
    no                       no, nope, n, false, wrong, "not really", "I do not think so", "it is not", "there is no
                             dog"
    neither, so it is wrong  "yes and no", "yes or no", "maybe", "not sure", "I can't say yes"

"no" before a noun is no answer by itself: "Yes, there is no dog" says yes.
"""

from __future__ import annotations

import re

from dtr1_jax.rewards.open_answers import plain

_YES = frozenset("yes yeah yep yup yea yah ya aye yess".split())
_NO = frozenset("no nope nah nay noo".split())
# Words that say yes or no where they are the whole of a clause, such as "Correct, ..." or "that is right".
_AGREE = frozenset(
    "true correct right sure certainly definitely absolutely indeed affirmative exactly surely positive"
    " undoubtedly obviously".split()
)
_DENY = frozenset("false incorrect wrong untrue negative never".split())
_UNSURE = frozenset("sure certain positive".split())
_FILLERS = frozenset(
    "it is that this i we you think would say am are the a answer statement claim very quite so pretty believe be to"
    " for totally completely was were course of well and guess suppose most almost not really".split()
)
_CLAUSE = re.compile(r"[.,;:!?()\n]+|\s[-\u2013\u2014]+\s")
_CERTAIN = re.compile(r"\b(?:without (?:any |a )?doubts?|(?:with )?no (?:doubts?|question)(?: about (?:it|that))?)\b")
_WHO = "(?:it|this|that|he|she|they|there|we|i|you|one)"
_VERB = "(?:is|are|was|were|does|do|did|has|have|can|will|would|should|could)"
_SHORT_NO = re.compile(
    r"(?:no )?(?:not (?:really|at all|quite|exactly|likely|true|correct|right)"
    r"|(?:probably|certainly|definitely|absolutely|surely|of course|i think|i believe|i guess) not"
    r"|i (?:do not|don't|would not|wouldn't) (?:think|believe|say) (?:so|that)|i doubt (?:it|that|so)"
    r"|by no means|no way|i disagree"
    rf"|{_WHO} {_VERB}(?: not|n't)(?: any| one| so)?|(?:it|that|he|she)'s not|they're not|{_WHO} (?:can|won)'t|cannot)"
)
_SHORT_YES = re.compile(
    r"(?:i (?:think|believe|guess|suppose|would say) so|of course|for sure|you bet|why not|i agree"
    rf"|(?:of course )?{_WHO}(?: certainly| definitely| really| sure)? {_VERB}(?: so| one)?)"
)
_NONE_THERE = re.compile(
    r"(?:there (?:is|are|was|were)|there's|i (?:can )?see|(?:it|he|she|they) (?:has|have|had)) no \w+"
    r"|(?:no one|no \w+|nobody) (?:is|are|was|were)\b"
)
_SAYS = frozenset("say says said think believe guess answer answered answers".split())
_BEHIND_NO = frozenset("it there this that the he she they i we not".split())  # "No it is not", "No there is a cat"


def yes_or_no(text: str) -> str | None:
    """ "yes" or "no" as a text says it, see above; None where it says neither or both."""
    text = plain(text).lower()
    if text.strip(" .!?") in ("y", "n"):
        return {"y": "yes", "n": "no"}[text.strip(" .!?")]
    certain = _CERTAIN.search(text)
    clauses = [clause for clause in map(str.strip, _CLAUSE.split(_CERTAIN.sub(" ", text))) if clause]
    for say in (_explicit, _agreement, _short_sentence):
        answers = set().union(*map(say, clauses)) if clauses else set()
        if answers:
            return answers.pop() if len(answers) == 1 and "" not in answers else None
    return "yes" if certain else None


def _explicit(clause: str) -> set[str]:
    """The answers by "yes" and "no" themselves in a clause; "" for one that is denied."""
    words = re.findall(r"[\w']+", clause)
    answers = set()
    for i, word in enumerate(words):
        if word in _YES:
            answers.add("" if any(map(_denies, words[max(i - 4, 0) : i])) else "yes")
        elif word in _NO and _is_answer(words, i):
            answers.add("" if any(map(_denies, words[max(i - 4, 0) : i])) else "no")
    return answers


def _is_answer(words: list[str], place: int) -> bool:
    """Whether a word "no" is an answer and does not belong to the noun behind it."""
    alone = place == len(words) - 1 or words[place + 1] in ("and", "or", "because", "since", "as", "but", *_YES, *_NO)
    said = place and (words[place - 1] in _SAYS or (words[place - 1] == "is" and "answer" in words[:place]))
    first = (
        place == 0
        and len(words) > 1
        and words[1] in ("it", "there", "this", "that", "the", "he", "she", "they", "i", "we", "not")
    )
    return bool(words[place] != "no" or alone or said or first or (place == 0 and len(words) <= 2))


def _denies(word: str) -> bool:
    return word in ("not", "never", "cannot", "neither") or word.endswith("n't")


def _agreement(clause: str) -> set[str]:
    """The answers of a clause by words such as "correct" and "wrong" with nothing but fillers beside them."""
    words = re.findall(r"[\w']+", clause.replace("'s", " is").replace("'m", " am").replace("'re", " are"))
    answers = set()
    for i, word in enumerate(words):
        if word not in _AGREE and word not in _DENY:
            continue
        others = [w for w in words if w not in _AGREE and w not in _DENY and not _denies(w) and w not in _FILLERS]
        if others:
            continue
        denied = any(map(_denies, words[:i] + words[i + 1 :]))
        if word in _UNSURE and any(map(_denies, words[:i])):
            answers.add("")
        else:
            answers.add("yes" if (word in _AGREE) != denied else "no")
    return answers


def _short_sentence(clause: str) -> set[str]:
    """The answers of a clause that is a short sentence, such as "it is", "not really", "there is no dog"."""
    if _SHORT_NO.fullmatch(clause) or _NONE_THERE.match(clause):
        return {"no"}
    return {"yes"} if _SHORT_YES.fullmatch(clause) else set()
