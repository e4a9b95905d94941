"""Parts of a text around the words that a query has, with the words marked.

A word is marked where the text's analyzer makes a token of it that is among the query's.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from elanus.engine.text.analyzer import Analyzer

Span = tuple[int, int]
"""From and to, in characters."""


@dataclass(frozen=True, slots=True)
class Marking:
    """How fragments look.

    before, after: what stands around a marked word; the n-th word of a fragment gets the n-th, and
    after the last one the first again. size: characters of a fragment, at least. lead: characters
    before its first marked word. most: fragments of a text.
    """

    before: tuple[str, ...] = ("<em>",)
    after: tuple[str, ...] = ("</em>",)
    size: int = 100
    lead: int = 0
    most: int = 5


@dataclass(slots=True)
class _Fragment:
    start: int
    end: int
    words: list[Span] = field(default_factory=list)


def fragments(text: str, analyzer: Analyzer, wanted: Set[str], marking: Marking) -> list[str]:
    """The marked fragments of ``text``, in its order; none if no token is in ``wanted``."""
    spans = ((w.start, w.end) for w in analyzer.placed(text) if w.text in wanted)
    parts = _parts(_merged(sorted(spans)), len(text), marking)
    return [_marked(text, part, marking) for part in parts]


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Sorted spans with those that overlap made one."""
    last: Span | None = None
    for start, end in spans:
        if last is not None and start < last[1]:
            last = (last[0], max(last[1], end))
            continue
        if last is not None:
            yield last
        last = (start, end)
    if last is not None:
        yield last


def _parts(words: Iterable[Span], length: int, marking: Marking) -> list[_Fragment]:
    """A fragment begins before a word and takes every word that starts within it."""
    found: list[_Fragment] = []
    for start, end in words:
        if not found or start > found[-1].end:
            if len(found) == marking.most:
                break
            first = max(0, start - marking.lead)
            found.append(_Fragment(first, min(first + marking.size, length)))
        part = found[-1]
        part.words.append((start, end))
        part.end = max(part.end, end)
    return found


def _marked(text: str, part: _Fragment, marking: Marking) -> str:
    pieces, at = [], part.start
    for number, (start, end) in enumerate(part.words):
        before = marking.before[number % len(marking.before)]
        after = marking.after[number % len(marking.after)]
        pieces += [text[at:start], before, text[start:end], after]
        at = end
    return "".join([*pieces, text[at : part.end]])
