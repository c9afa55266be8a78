import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.data.options import SplitName
from minigpt.data.sources import Fragment, Span, document_key
from minigpt.data.splitting import (
    LongDocument,
    PieceSummary,
    SplitRule,
    Survey,
    choose_rule,
    held_out,
    measure_piece,
    summarise_piece,
)
from minigpt.errors import DataError


def documents(*texts: str) -> list[Fragment]:
    return [Fragment(text, True, True, document_key(text.encode()), len(text.encode())) for text in texts]


def pieces(*texts: str) -> list[list[Span]]:
    """The texts as lines, two to a piece."""
    spans = [
        Span(path=Path("x"), kind="rows", start=0, size=1, held=tuple(texts[first : first + 2]))
        for first in range(0, len(texts), 2)
    ]
    return [[span] for span in spans]


def choose(*texts: str, split: SplitName = "auto", val_fraction: float = 0.1) -> SplitRule:
    cut = pieces(*texts)
    survey = Survey([summarise_piece(piece, val_fraction, False) for piece in cut])
    return choose_rule(split, val_fraction, survey, "x", lambda least: [measure_piece(piece, least) for piece in cut])


def sides(rule: SplitRule, fragments: list[Fragment], offset: int = 0) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"train": [], "val": []}
    for side, fragment in rule.apply(fragments, offset):
        found[side].append(fragment.text)
    return found


def test_offsets_are_where_pieces_begin() -> None:
    summaries = [PieceSummary(1, size, 0, 0, 0, 0, 0, "") for size in (5, 0, 7)]
    assert Survey(summaries).offsets == [0, 5, 5]
    assert (Survey(summaries).n_bytes, Survey(summaries).n_documents) == (12, 3)


EQUAL = [f"document {i:02}" for i in range(40)]


def test_auto_is_by_position_for_one_document_and_by_documents_for_several() -> None:
    assert choose("one text").kind == "position"
    assert choose(*EQUAL).kind == "documents"
    assert choose("one", "two", split="documents").kind == "documents"
    assert choose("one", "two", split="position").kind == "position"


def test_the_usual_cut_of_tiny_shakespeare() -> None:
    summary = Survey([PieceSummary(1, 1_115_394, 0, 0, 0, 0, 0, "")])
    assert choose_rule("auto", 0.1, summary, "x", lambda _: []) == SplitRule("position", 1_003_854)


@pytest.mark.parametrize(
    ("n_bytes", "val_fraction", "limit"), [(10, 0.9, 1), (10, 0.1, 9), (1000, 0.3, 700), (7, 0.5, 3)]
)
def test_the_last_part_of_the_bytes(n_bytes: int, val_fraction: float, limit: int) -> None:
    assert choose("x" * n_bytes, val_fraction=val_fraction).limit == limit


@given(st.text(min_size=1, max_size=30), st.data())
def test_a_position_cuts_at_a_character_wherever_pieces_lie(text: str, data: st.DataObject) -> None:
    n_bytes = len(text.encode())
    limit = data.draw(st.integers(0, n_bytes))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=4)) - {len(text)})
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    rule = SplitRule("position", limit)
    train, val, offset = "", "", 0
    begins: list[bool] = []
    for number, part in enumerate(parts):
        fragment = Fragment(part, number == 0, number == len(parts) - 1, 0, len(part.encode()))
        for side, found in rule.apply([fragment], offset):
            assert found.text
            if side == "train":
                assert not val
                train += found.text
            else:
                begins.append(found.begins)
                val += found.text
            assert found.ends == (len(train + val) == len(text))
        offset += len(part.encode())
    assert train + val == text
    assert len(train.encode()) <= limit
    if val:
        assert len(train.encode()) + len(val[0].encode()) > limit
        assert begins == [True] + [False] * (len(begins) - 1)  # the rest of a parted document is a document


def test_positions_are_those_of_the_whole_corpus() -> None:
    rule = SplitRule("position", 10)
    assert sides(rule, documents("abc", "def"), offset=5) == {"train": ["abc", "de"], "val": ["f"]}


def test_documents_go_by_their_text_whatever_their_order() -> None:
    texts = [f"document {i}" for i in range(2000)] + ["twice", "twice"]
    rule = choose(*texts)
    found = sides(rule, documents(*texts))
    assert found == {side: [t for t in texts if t in found[side]] for side in found}
    assert sorted(sides(rule, documents(*reversed(texts)))["val"]) == sorted(found["val"])
    assert 0.08 < len(found["val"]) / len(texts) < 0.12
    assert ("twice" in found["train"]) != ("twice" in found["val"])


@given(st.lists(st.text(min_size=1, max_size=5), min_size=2, max_size=6), st.sampled_from([0.001, 0.5, 0.999]))
def test_no_side_is_empty_where_two_documents_differ(texts: list[str], val_fraction: float) -> None:
    if len(set(texts)) == 1:
        with pytest.raises(
            DataError, match=f"its {len(texts)} documents are all the same; split=position can part them"
        ):
            choose(*texts, split="documents", val_fraction=val_fraction)
    else:
        found = sides(choose(*texts, split="documents", val_fraction=val_fraction), documents(*texts))
        assert found["train"]
        assert found["val"]
        assert not set(found["train"]) & set(found["val"])


def test_what_cannot_be_split() -> None:
    with pytest.raises(DataError, match="corpus x: no text in it"):
        choose()
    with pytest.raises(DataError, match="corpus x: one document, which split=documents cannot part"):
        choose("one", split="documents")
    with pytest.raises(DataError, match="its 2 documents are all the same"):
        choose("x", "x")


BOOK = "".join(f"line {i} of the book é\n" for i in range(2000))
README = "a short read-me\n" * 3
TINY = [f"tiny document {i}\n" for i in range(1000)]


@pytest.mark.parametrize("val_fraction", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "texts",
    [
        [BOOK, README],
        [README, BOOK],
        [BOOK, BOOK],
        [BOOK, BOOK[:5000], BOOK[:100]],
        [BOOK * 4, *TINY],
        [*TINY, BOOK * 4],
        [*TINY, BOOK * 4, *TINY, BOOK],
        [BOOK[i:] for i in range(5)],
    ],
    ids=["book", "readme first", "twice", "three", "giant first", "giant last", "two giants", "five"],
)
def test_auto_never_misses_the_share_by_more_than_half_or_double(texts: list[str], val_fraction: float) -> None:
    found = sides(choose(*texts, val_fraction=val_fraction), documents(*texts))
    held, trained = (sum(len(text.encode()) for text in found[side]) for side in ("val", "train"))
    assert held + trained == sum(len(text.encode()) for text in texts)
    assert val_fraction / 2 <= held / (held + trained) <= 2 * val_fraction
    assert (1 - val_fraction) / 2 <= trained / (held + trained) <= 2 * (1 - val_fraction)


def test_a_long_document_gives_its_own_end_and_short_ones_go_whole() -> None:
    found = sides(choose(BOOK * 4, *TINY), documents(BOOK * 4, *TINY))
    assert found["train"][0] + found["val"][0] == BOOK * 4
    assert len(found["val"][0].encode()) == pytest.approx(0.1 * len((BOOK * 4).encode()), abs=3)
    assert sorted(found["train"][1:] + found["val"][1:]) == sorted(TINY)
    assert len(found["val"]) > 50


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_a_long_document_is_cut_in_the_same_place_wherever_its_parts_lie(size: int) -> None:
    """The part for training is closed, so that the next document does not seem to go on with it."""
    long = "é€x" * 40
    parts = _parts(long, size)
    # Not inside the first character of a part, as choose_rule sees to.
    cut = next((place for place, _ in parts[1:] if place <= 154 < place + 4), 154)
    rule = SplitRule("within", 0, (LongDocument(3, 3 + cut, 3 + 240),))
    shorts = [Fragment(text, True, True, 0, 3) for text in ("one", "two")]
    found = list(rule.apply([shorts[0], *(part for _, part in parts), shorts[1]], 0))
    train = [fragment for side, fragment in found if side == "train"]
    val = [fragment for side, fragment in found if side == "val"]
    assert "".join(fragment.text for fragment in train[1:-1] + val) == long
    assert [fragment.ends for fragment in train[1:-1]] == [False] * (len(train) - 3) + [True]
    assert [fragment.begins for fragment in val] == [True] + [False] * (len(val) - 1)
    assert val[-1].ends
    assert abs(sum(fragment.n_bytes for fragment in val) - (240 - 154)) < 4


def _parts(text: str, size: int) -> list[tuple[int, Fragment]]:
    """A text in fragments of `size` characters, with their places in bytes."""
    cuts = range(0, len(text), size)
    return [
        (
            len(text[:cut].encode()),
            Fragment(
                text[cut : cut + size], cut == 0, cut + size >= len(text), 0, len(text[cut : cut + size].encode())
            ),
        )
        for cut in cuts
    ]


def test_what_is_held_out_is_told() -> None:
    assert held_out("documents", 0.1, 90, 10) == "10.0% (whole documents)"
    assert held_out("position", 0.1, 90, 10) == "10.0% (the end of the text)"
    missed = held_out("documents", 0.1, 1, 999)
    assert missed == "99.9% (whole documents; val_fraction=0.1 is missed: split=position would hit it)"
    assert held_out("within", 0.1, 90, 10) == "10.0% (the ends of long documents, short ones whole)"
    assert held_out("", None, 90, 10) == "10.0%"
