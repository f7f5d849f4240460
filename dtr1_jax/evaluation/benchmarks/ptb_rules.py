"""The rules by which Stanford's PTBTokenizer (CoreNLP 3.4.1) splits English text into words.

At each place of a text every rule is tried. The rule wins that reaches farthest, with the text behind the word that it
looks at ("before") counted in; among equals the first one wins. That is how the tokenizer's own scanner works; the
rules here are written anew for Python. Left out are the rules that only change punctuation, which captions lose anyway.

The rules do not mind the case of fixed words ("MR." is "Mr."), but they mind that of a class of letters.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable

WINDOW = 500  # a rule looks at most so many characters ahead, so that time is linear in the text


@dataclasses.dataclass(frozen=True)
class Rule:
    """One kind of word.

    Attributes:
      pattern: matches the word as group "word", and as group "before", if there is one, what must follow it.
      starts: the characters with which the word may begin; "a" stands for all letters and marks, "0" for all digits,
        "*" for all others.
      needs: a character without which the pattern cannot match, or "".
      words: text of the word -> (word as it is written, number of its characters that are used up).
    """

    pattern: re.Pattern
    starts: frozenset[str]
    needs: str
    words: Callable[[str], tuple[str, int]]


def _ranges(wanted: Callable[[int], bool]) -> str:
    """The inside of a regular expression's [...] with all characters up to U+FFFF that are wanted."""
    runs: list[list[int]] = []
    for code in range(0x10000):
        if wanted(code):
            if runs and runs[-1][1] == code - 1:
                runs[-1][1] = code
            else:
                runs.append([code, code])
    return "".join(f"\\u{a:04x}-\\u{b:04x}" for a, b in runs)


def _is_mark(code: int) -> bool:
    """Whether the tokenizer takes an accent or vowel sign for a letter: not those of Oriya, Kannada and Sinhala."""
    inside = 0x300 <= code < 0xB00 or 0xB82 <= code < 0xC80 or 0xD3E <= code <= 0xD48 or 0xE30 <= code <= 0xECD
    return inside and unicodedata.category(chr(code)) in ("Mn", "Mc")


_LETTERS = _ranges(lambda code: unicodedata.category(chr(code))[0] == "L")
_MARKS = _ranges(_is_mark) + "\\u00ad\\u02c2-\\u02c5\\u02d2-\\u02df\\u02e5-\\u02ff\\u055a-\\u055f\\u06d6-\\u06ef"
# Sinhala's digits are younger than the tokenizer.
_DIGITS = _ranges(lambda code: unicodedata.category(chr(code)) == "Nd" and not 0xDE6 <= code <= 0xDEF)

_SPACE = "[ \\t\\u00a0\\u2000-\\u200a\\u3000]"
_BLANK = "[ \\t\\u00a0\\u2000-\\u200a\\u3000\\n\\r\\u2028\\u2029\\v\\f\\u0085]"
_LETTER = f"(?:[{_LETTERS}{_MARKS}]|(?i:&[aeiou](?:acute|grave|uml);))"
_LETTER_OR_DIGIT = f"(?:[{_LETTERS}{_MARKS}{_DIGITS}]|(?i:&[aeiou](?:acute|grave|uml);))"
_ALNUM = f"[{_LETTERS}{_DIGITS}]"
_DIGIT = f"[{_DIGITS}]"
_APOSTROPHE = "(?:['\\u0092\\u2019]|(?i:&apos;))"
_ANY_APOSTROPHE = "(?:['\\u0092\\u2019`\\u0091\\u2018\\u201b]|(?i:&apos;))"
_APOSTROPHES = "'\u0092\u2019&"  # the first characters of an apostrophe
_QUOTES = "[`\\u2018-\\u201f\\u0091-\\u0094\\u2039\\u203a\\u00ab\\u00bb]"
_PAUSE = "[,;:\\u3001]"

_WORD = f"{_LETTER}{_LETTER_OR_DIGIT}*(?:[.!?]{_LETTER}{_LETTER_OR_DIGIT}*)*"
_ENDING = f"{_APOSTROPHE}(?i:[msd]|re|ve|ll)"  # 's, 'm, 'd, 're, 've, 'll
_NOT = f"(?i:n){_ANY_APOSTROPHE}(?i:t)"  # n't
_ACRONYM = (
    "(?:(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\\.S|U\\.S\\.-(?:U\\.S\\.S\\.R|U\\.K))|[A-Za-z](?:\\.[A-Za-z])*)"
)
_LONG_ACRONYM = (
    "(?:(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\\.S|U\\.S\\.-(?:U\\.S\\.S\\.R|U\\.K))|[A-Za-z](?:\\.[A-Za-z])+)"
)
_ELIDED = f"(?:[dDoOlL]{_ANY_APOSTROPHE}{_ALNUM})?{_ALNUM}+"  # o'clock
_THING = f"{_ELIDED}(?:[-_\\u058a\\u2010\\u2011]{_ELIDED})*"
_HYPHENED = f"[A-Za-z0-9][A-Za-z0-9.,\\u00ad]*(?:-(?:{_LONG_ACRONYM}\\.|[A-Za-z0-9\\u00ad]+))+"
_AND = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"  # AT&T
_NAME = "[A-Za-z][A-Za-z0-9_:.\\-]*"
_TAG = (
    "<(?:[!?][A-Za-z\\-][^>\\r\\n]*"
    f"|{_NAME}(?: +{_NAME}(?: *= *(?:'[^']*'|\"[^\"]*\"))?)* */?|/{_NAME}) *>"
)  # fmt: skip
_NO_LINK = ' \\t\\n\\f\\r"<>|(){}'

# Abbreviations that mostly stand before a small letter, those that mostly stand before a capital one, and those that
# are abbreviations only before a number. "[A]z" is an abbreviation with a capital letter only.
_BEFORE_SMALL = (
    "(?i:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Mon|Tues?|Wed|Thu|Thurs|Fri|Ala|Ariz|Calif|Colo|Conn|Ct|Dak"
    "|Fla|Ga|Ind|Kans?|Ky|Md|Mich|Minn|Mo|Mont|Neb|Nev|Okla|Penn|Tenn|Va|Vt|Wisc?|Wyo|Inc|Cos?|Corp|Ltd|Plc|Rt|Bancorp"
    "|Bhd|Assn|Univ|Intl|Sys|tel|est|ext|sq|Jr|Sr|Bros|(?:Ed|Ph)\\.D|Blvd|Rd|Esq|etc|al|seq|Bldg)"
    "|[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[L](?i:a)|[M](?i:ass|iss)|[O](?i:re)|[P](?i:a)|[T](?i:ex)|[W](?i:ash)"
    "|(?i:Pp?t)[ye](?i:s?)"
)
_BEFORE_CAPITAL = (
    "(?:(?i:Mr|Mrs|Ms|Drs?|Profs?|Sens?|Reps?|Attys?|Lt|Col|Gen|Messrs|Govs?|Adm|Rev|Maj|Sgt|Cpl|Pvt|Capt|Ste?|Ave"
    "|Pres|Lieut|Hon|Brig|Co?mdr|Pfc|Spc|Supts?|Det|Mt|Ft|Adj|Adv|Asst|Assoc|Ens|Insp|Mlle|Mme|Msgr|Sfc|vs|Alex|Wm"
    f"|Jos|Cie|a\\.k\\.a|cf|TREAS|Ph|Invt|Elec|Natl|Dept)|[M](?i:iss)|(?i:M)[ft](?i:g)|{_ACRONYM})"
)
_BEFORE_NUMBER = "(?i:ca|figs?|prop|nos?|art|bldg|pp|op)"
# A single letter with a period before one of these words ends a sentence: "vitamin C. The dog".
_STARTERS = (
    "About According Additionally After An A As At But Earlier He Her Here However If In It Last Many More Mr\\. Ms\\."
    " Now Once One Other Our She Since So Some Such That The Their Then There These They This We When While What Yet"
    " You"
)
_FILE = (
    "(?i:bat|bmp|class|cgi|cpp|c|dll|docx?|exe|gif|gz|html?|h|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar"
    "|txt|wav|xml|x|zip)"
)
_CURRENCY = {"\u00a2": "cents", "\u00a3": "#", "\u0080": "$", "\u00a4": "$", "\u20a0": "$", "\u20ac": "$"}
_FRACTION = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_QUOTE = (
    dict.fromkeys("\u0091\u2018\u201b\u2039", "`")
    | dict.fromkeys("\u0092\u2019\u203a", "'")
    | dict.fromkeys("\u0093\u201c\u00ab", "``")
    | dict.fromkeys("\u0094\u201d\u00bb", "''")
)


def _whole(word: str) -> tuple[str, int]:
    return word, len(word)


def _part(back: int) -> Callable[[str], tuple[str, int]]:
    """The word without its last `back` characters, which are read again."""
    return lambda word: (word[:-back], len(word) - back)


def _unhyphened(word: str) -> tuple[str, int]:
    """Soft hyphens mark where a word may be broken; a word of them alone is a hyphen."""
    return word.replace("\u00ad", "") or "-", len(word)


def _unbroken(word: str) -> tuple[str, int]:
    """A word that has spaces in it (1 1/2, a phone number) has no-break spaces in their place."""
    return word.replace(" ", "\u00a0").replace("(", "-LRB-").replace(")", "-RRB-"), len(word)


def _table(table: dict[str, str]) -> Callable[[str], tuple[str, int]]:
    return lambda word: ("".join(table.get(c, c) for c in word), len(word))


def _ampersand(word: str) -> tuple[str, int]:
    return re.sub("(?i:&amp;)", "&", word), len(word)


def _quote(word: str) -> tuple[str, int]:
    """Quotation marks as ` and '; a pair of them as `` and ''."""
    text = re.sub("(?i:&apos;)", "'", word)
    text = re.sub('(?i:&quot;)|"', "''", text)
    return "".join(_QUOTE.get(c, c) for c in text), len(word)


def _fixed(text: str) -> Callable[[str], tuple[str, int]]:
    return lambda word: (text, len(word))


def _dashes(word: str) -> tuple[str, int]:
    return "--" if 3 <= len(word) <= 4 else word, len(word)


def _rule(
    starts: str,
    word: str,
    before: str = "",
    words: Callable[[str], tuple[str, int]] = _whole,
    needs: str = "",
) -> Rule:
    pattern = f"(?P<word>{word})" + (f"(?=(?P<before>{before}))" if before else "")
    return Rule(re.compile(pattern), frozenset(starts), needs, words)


@functools.cache
def _all_rules() -> list[Rule]:
    """The rules in the order in which equals win."""
    return [*_words(), *_links(), *_numbers(), *_abbreviations(), *_marks(), *_compounds(), *_rest()]


@functools.lru_cache(4096)
def rules_of(character: str) -> tuple[Rule, ...]:
    """The rules for words that may begin with a character, in the order in which equals win."""
    kind = unicodedata.category(character)
    start = "a" if kind[0] in "LM" or re.match(f"[{_MARKS}]", character) else "0" if kind == "Nd" else "*"
    return tuple(rule for rule in _all_rules() if rule.starts & {start, character})


# A word of letters before a period that is none of these has no rule of its own.
ABBREVIATION = re.compile(f"{_BEFORE_SMALL}|{_BEFORE_CAPITAL}|{_BEFORE_NUMBER}|(?i:pt)[eyEY]")


def _words() -> list[Rule]:
    apostrophe_words = (
        f"{_APOSTROPHE}(?i:n){_APOSTROPHE}?", f"[lLdDjJ]{_APOSTROPHE}", f"(?i:Dunkin|somethin|ol){_APOSTROPHE}",
        f"{_APOSTROPHE}(?i:em|till?|cause)", f"[A-HJ-XZn]{_ANY_APOSTROPHE}[{_LETTERS}]{{2,}}",
        f"{_APOSTROPHE}[2-9]0(?i:s)", f"[{_LETTERS}]{{2,}}(?<=[aeiouyAEIOUY]){_ANY_APOSTROPHE}[aeiouA-Z][{_LETTERS}]*",
        f"(?i:cont'd\\.?|'twas|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|O{_ANY_APOSTROPHE}o)",
    )  # fmt: skip
    return [
        _rule("a", "(?i:c)\\+\\+|(?i:[cf])#"),
        _rule("a", "(?i:cannot)", words=_part(3)),
        _rule("'", "'(?i:twas)", words=_part(3)),
        _rule("'", "'(?i:tis)", words=_part(2)),
        _rule("a", "(?i:gonna|gotta|lemme|gimme|wanna)", words=_part(2)),
        _rule("<", _TAG, words=_unbroken_tag),
        _rule(
            "&\u0096\u0097\u2013\u2014\u2015",
            "(?i:&(?:MD|mdash|ndash);)|[\\u0096\\u0097\\u2013-\\u2015]",
            words=_fixed("--"),
        ),
        _rule("&", "(?i:&amp;)", words=_ampersand),
        _rule("&", "(?i:&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);)"),
        _rule("a&", _WORD, _ENDING, _unhyphened),
        _rule("a", "[A-Za-z\\u00ad]*[A-MO-Za-mo-z]\\u00ad*", _NOT, _unhyphened),
        _rule("a&", _WORD, words=_unhyphened),
        *(_rule("a" + _APOSTROPHES, word) for word in apostrophe_words),
        _rule("a", f"(?i:y){_APOSTROPHE}", f"[{_LETTERS}]"),
    ]


def _unbroken_tag(word: str) -> tuple[str, int]:
    return word.replace(" ", "\u00a0"), len(word)


def _links() -> list[Rule]:
    path = f'(?:/[^ \\t\\n\\f\\r"<>|()]+[^{_NO_LINK}.!?,\\-])?'
    host = f"[^{_NO_LINK}.\\u00a0]+"
    return [
        _rule("a", f"(?i:https?)://[^{_NO_LINK}]+[^{_NO_LINK}.!?,\\-]"),
        _rule("a", f"(?i:www)\\.(?:[^{_NO_LINK}.!?,]+\\.)+[a-zA-Z]{{2,4}}{path}"),
        # The tokenizer's class of characters that cannot be in a host name has the range from "," to "_".
        _rule("a0*", f"(?:[^{_NO_LINK}`'!$,-_]+\\.)+(?i:com|net|org|edu){path}"),
        _rule(
            "a0&<", f"(?:(?i:&lt;)|<)?[a-zA-Z0-9][^{_NO_LINK}\\u00a0]*@(?:{host}\\.)*{host}(?:(?i:&gt;)|>)?", needs="@"
        ),
        _rule("@#", f"@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+"),
        _rule(_APOSTROPHES, _ENDING, "[^A-Za-z]", _quote),
        _rule("a", _NOT, "[^A-Za-z]", _quote),
    ]  # fmt: skip


def _numbers() -> list[Rule]:
    raised = "[\\u2070\\u00b9\\u00b2\\u00b3\\u2074-\\u2079]"
    parts = f"(?:[.:,\\u00ad\\u066b\\u066c]{_DIGIT}+)+"
    return [
        _rule("0", f"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}"),
        _rule("a0-+.:,\u066b\u066c", f"[-+]?(?:{_DIGIT}*{parts}|{_DIGIT}+)", words=_unhyphened),
        _rule("*", f"[\\u207a\\u207b\\u208a\\u208b]?(?:{raised}+|[\\u2080-\\u2089]+)"),
        _rule(
            "0", f"(?:{_DIGIT}{{1,4}}[- \\u00a0])?{_DIGIT}{{1,4}}(?:\\\\?/|\\u2044){_DIGIT}{{1,4}}", words=_unbroken_tag
        ),
        _rule("*", "[\\u00bc-\\u00be\\u2153-\\u215e]", words=_table(_FRACTION)),
        _rule(
            "a-", f"(?i:-(?:RRB|LRB|RCB|LCB|RSB|LSB)-|C\\.D\\.s|pro-|anti-|S(?:&amp;|&)P-500|S(?:&amp;|&)Ls"
            f"|Cap{_APOSTROPHE}n|c{_APOSTROPHE}est)", words=_ampersand,
        ),
        _rule("a0", "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"),
        _rule("a$#", "[A-Z]*\\$|#"),
        _rule(
            "*", "[\\u00a2-\\u00a5\\u0080\\u20a0\\u20ac\\u060b\\u0e3f\\u20a4\\uffe0\\uffe1\\uffe5\\uffe6]",
            words=_table(_CURRENCY),
        ),
    ]  # fmt: skip


def _abbreviations() -> list[Rule]:
    starters = "|".join(f"[{word[0]}](?i:{word[1:]})" for word in _STARTERS.split())
    return [
        _rule("a", "[A-Za-z]\\.", f"{_BLANK}+(?:{starters}|{_TAG}){_BLANK}", _part(1)),
        _rule("a", f"{_ACRONYM}\\.", f"{_BLANK}+(?:{starters}|{_TAG}){_BLANK}"),
        _rule("a", f"{_BEFORE_NUMBER}\\.", f"{_BLANK}?{_DIGIT}"),
        _rule("a", "(?:(?i:pt)[eyEY]|(?i:co))\\.", f"{_SPACE}(?i:ltd|lim)"),
        _rule("a", f"(?:{_BEFORE_SMALL})\\.", "[\\s\\S]{2}"),
        _rule("a", f"(?:{_BEFORE_SMALL})\\."),
        _rule("a", f"{_BEFORE_CAPITAL}\\."),
        _rule("a", _BEFORE_CAPITAL, _SPACE),
        _rule("a", _ACRONYM, _BLANK),
        _rule(_APOSTROPHES, f"{_APOSTROPHE}[0-9][0-9]", _BLANK),
        _rule("a0&", f"{_LETTER_OR_DIGIT}+(?:\\.{_LETTER_OR_DIGIT}+)*\\.{_FILE}", f"{_BLANK}|[.?!,]"),
        _rule("a&", f"{_WORD}\\.", _PAUSE, _unhyphened),
        _rule(
            "0+(", "(?:\\([0-9]{2,3}\\)[ \\u00a0]?|(?:\\+\\+?)?(?:[0-9]{2,4}[- \\u00a0])?[0-9]{2,4}[- \\u00a0])"
            "[0-9]{3,4}[- \\u00a0]?[0-9]{3,5}", words=_unbroken,
        ),
        _rule("0+", "(?:(?:\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}"),
    ]  # fmt: skip


def _marks() -> list[Rule]:
    eyes = "\\-\\^x=~<>'"
    return [
        _rule('"&', '"|(?i:&quot;)', words=_quote),
        _rule("<&", "<|(?i:&lt;)", words=_fixed("<")),
        _rule(">&", ">|(?i:&gt;)", words=_fixed(">")),
        _rule("<>:;=", "[<>]?[:;=][-o*']?[()DPdpO\\\\{@|\\[\\]]", "[^A-Za-z0-9]", _unbroken),
        _rule(
            "a^=~<>-'(", f"[\\^x=~<>]\\.\\[\\^x=~<>\\]|[{eyes}]_[{eyes}]|\\([{eyes}][_.]?[{eyes}]\\)"
            "|\\([\\^x=~<>']-[\\^x=~<>'`]\\)", words=_unbroken,
        ),
        *(_rule(bracket, re.escape(bracket), words=_fixed(name)) for bracket, name in zip("{}[]()", _BRACKETS)),
        _rule("-", "-+", words=_dashes),
        _rule(".\u0085\u2026", "\\.{3,5}|(?:\\.[ \\u00a0]){2,4}\\.|[\\u0085\\u2026]", words=_fixed("...")),
        _rule("@#_*\\", "@+|#+|_+|\\*+|(?:\\\\\\*){1,3}"),
        _rule(",;:\u3001", _PAUSE),
        _rule("?!", "[?!]+"),
        _rule("*", "[.\\u00a1\\u00bf\\u037e\\u0589\\u061f\\u06d4\\u0700-\\u0702\\u07fa\\u3002=/]"),
    ]  # fmt: skip


_BRACKETS = ("-LCB-", "-RCB-", "-LSB-", "-RSB-", "-LRB-", "-RRB-")


def _compounds() -> list[Rule]:
    return [
        _rule("a0", f"{_HYPHENED}\\.", _PAUSE, _unhyphened, "-"),
        _rule("a0", _HYPHENED, words=_unhyphened, needs="-"),
        _rule("a0", f"{_THING}\\.", _PAUSE),
        _rule("a0", _THING),
        _rule("a", f"{_AND}\\.", _PAUSE, _ampersand),
        _rule("a", _AND, words=_ampersand),
    ]


def _rest() -> list[Rule]:
    return [
        _rule("'", "'", "[A-Za-z][^ \\t\\n\\r\\u00a0]", _fixed("`")),
        _rule(_APOSTROPHES, _ENDING, words=_quote),
        _rule("a", _NOT, words=_quote),
        _rule(
            "*", f"{_QUOTES}{{2}}|''|{_APOSTROPHE}|{_QUOTES}", words=_quote,
        ),
        _rule("<>", "<<|>>"),
        _rule("&", "(?i:&nbsp;)", words=_fixed("")),
        _rule("*", f"[{_SYMBOLS}]"),
    ]  # fmt: skip


# Symbols that are words of their own; other characters without a rule are dropped.
_SYMBOLS = (
    "+%&~\\^|\\\\\\u00a6\\u00a7\\u00a8\\u00a9\\u00ac\\u00ae-\\u00ba\\u00d7\\u00f7\\u0387\\u05be\\u05c0\\u05c3\\u05c6"
    "\\u05f3\\u05f4\\u0600-\\u0603\\u0606-\\u060a\\u060c\\u0614\\u061b\\u061e\\u066a\\u066d\\u0703-\\u070d"
    "\\u07f6-\\u07f8\\u0964\\u0965\\u0e4f\\u1fbd\\u2016\\u2017\\u2020-\\u2023\\u2030-\\u2038\\u203b\\u203e-\\u2042"
    "\\u2044\\u207a-\\u207f\\u208a-\\u208e\\u2100-\\u214f\\u2190-\\u21ff\\u2200-\\u2bff\\u3012\\u30fb"
    "\\uff01-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65"
)
