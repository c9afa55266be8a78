from minigpt.data.identity import DataIdentity


def test_texts_are_told_by_their_hashes_whatever_the_tokens() -> None:
    one, other = (DataIdentity(train="t", val="v", fingerprint=tokens) for tokens in ("byte", "bpe"))
    assert one.same_held_out(other) is True
    assert one.same_training(other) is True
    assert one.same_held_out(DataIdentity(train="t", val="w", fingerprint="byte")) is False


def test_the_same_tokens_are_the_same_text_and_other_tokens_tell_nothing() -> None:
    old, new = DataIdentity(fingerprint="a"), DataIdentity(train="t", val="v", fingerprint="a")
    assert old.same_held_out(new) is True
    assert old.same_held_out(DataIdentity(fingerprint="b")) is None
    assert old.same_training(DataIdentity(train="t", val="v", fingerprint="b")) is None
    assert DataIdentity().same_held_out(DataIdentity()) is None


def test_what_is_no_hash_is_not_known() -> None:
    identity = DataIdentity(train="t", val="v", fingerprint="f")
    assert DataIdentity.of(identity.texts, "f") == identity
    assert DataIdentity.of(None, None) == DataIdentity.of({"train": 1}, 2) == DataIdentity.of("x", "") == DataIdentity()
