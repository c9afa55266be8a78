import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.errors import DataError
from minigpt.text.options import SplitName
from minigpt.text.sources import Fragment, document_key
from minigpt.text.splitting import PieceSummary, SplitRule, Survey, choose_rule


def documents(*texts: str) -> list[Fragment]:
    return [Fragment(text, True, True, document_key(text.encode()), len(text.encode())) for text in texts]


def survey(*texts: str) -> Survey:
    keys = [document_key(text.encode()) for text in texts]
    n_bytes = sum(len(text.encode()) for text in texts)
    return Survey([PieceSummary(len(texts), n_bytes, min(keys, default=1 << 64), max(keys, default=-1), "")])


def choose(*texts: str, split: SplitName = "auto", val_fraction: float = 0.1) -> SplitRule:
    return choose_rule(split, val_fraction, survey(*texts), "x")


def sides(rule: SplitRule, fragments: list[Fragment], offset: int = 0) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"train": [], "val": []}
    for side, fragment in rule.apply(fragments, offset):
        found[side].append(fragment.text)
    return found


def test_offsets_are_where_pieces_begin() -> None:
    pieces = [PieceSummary(1, size, 0, 0, "") for size in (5, 0, 7)]
    assert Survey(pieces).offsets == [0, 5, 5]
    assert (Survey(pieces).n_bytes, Survey(pieces).n_documents) == (12, 3)


def test_auto_is_by_position_for_one_document_and_by_documents_for_several() -> None:
    assert choose("one text").kind == "position"
    assert choose("one", "two").kind == "documents"
    assert choose("one", "two", split="position").kind == "position"


def test_the_usual_cut_of_tiny_shakespeare() -> None:
    summary = Survey([PieceSummary(1, 1_115_394, 0, 0, "")])
    assert choose_rule("auto", 0.1, summary, "x") == SplitRule("position", 1_003_854)


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


@given(st.lists(st.text(max_size=5), min_size=2, max_size=6), st.sampled_from([0.001, 0.5, 0.999]))
def test_no_side_is_empty_where_two_documents_differ(texts: list[str], val_fraction: float) -> None:
    if len(set(texts)) == 1:
        with pytest.raises(
            DataError, match=f"its {len(texts)} documents are all the same; split=position can part them"
        ):
            choose(*texts, val_fraction=val_fraction)
    else:
        found = sides(choose(*texts, val_fraction=val_fraction), documents(*texts))
        assert found["train"]
        assert found["val"]
        assert not set(found["train"]) & set(found["val"])


def test_what_cannot_be_split() -> None:
    with pytest.raises(DataError, match="corpus x: no text in it"):
        choose()
    with pytest.raises(DataError, match="corpus x: one document, which split=documents cannot part"):
        choose("one", split="documents")
