"""Special tokens of models from elsewhere against `transformers`: ids, templates, ends of texts, there and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TEXT, random_gpt, tiny_config, tiny_tokenizer
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from minigpt.api import load
from minigpt.data.tokenizer_folder import tokenizer_from_folder
from minigpt.data.tokenizers import find_tokenizer, tokenizer_from_json
from minigpt.errors import CheckpointError, DataError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.generate.text import encode_prompt
from minigpt.interop.foreign import write_foreign
from minigpt.interop.hf import export_hf, read_hf
from minigpt.interop.our_file import export_file, read_file

from .foreign import gpt2, llama, transformers

PROMPTS = ("", "the cat", "sat on ", "é")


def byte_level(specials: list[str], template: str | None = None) -> Tokenizer:
    """A small byte-level BPE with its special tokens first, as GPT-2's and Llama 3's are."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"special_tokens": specials, "initial_alphabet": alphabet, "show_progress": False}
    library.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=300, **settings))
    if template is not None:
        used = [(name, library.token_to_id(name)) for name in specials if name in template]
        library.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return library


def sentencepiece(template: str | None) -> Tokenizer:
    """A small one of Llama 2's kind: `<unk>`, `<s>`, `</s>`, the bytes, and pieces with a space in front."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted(set(TEXT.replace(" ", "\u2581")) | {"\u2581"})
    vocabulary = {name: index for index, name in enumerate([*names, *(each for each in letters if each not in names)])}
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=[], fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>")])
    if template is not None:
        library.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return library


CASES: dict[str, dict[str, Any]] = {
    "GPT-2": {
        "library": lambda: byte_level(["<|endoftext|>"]),
        "settings": {"tokenizer_class": "GPT2Tokenizer"},
        "generation": {"bos_token_id": 0, "eos_token_id": 0},
    },
    "Llama 2": {
        "library": lambda: sentencepiece("<s> $A"),
        "settings": {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "legacy": False},
        "generation": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    },
    "Llama 3": {
        "library": lambda: byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], "<|begin_of_text|> $A"),
        "settings": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "generation": {"bos_token_id": 0, "eos_token_id": [2, 1, 77]},
    },
    "other names": {
        "library": lambda: byte_level(["[PAD]", "[BOS]", "[EOS]"], "[BOS] $A"),
        "settings": {"bos_token": "[BOS]", "eos_token": "[EOS]", "add_bos_token": True},
        "generation": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    },
    "both ends": {
        "library": lambda: byte_level(["<a>", "<z>"], "<a> $A <z>"),
        "settings": {"bos_token": "<a>", "eos_token": "<z>"},
        "generation": {"bos_token_id": 0, "eos_token_id": 1},
    },
    "a template that the settings would switch off": {
        "library": lambda: byte_level(["<a>", "<z>"], "<a> $A"),
        "settings": {"bos_token": "<a>", "eos_token": "<z>", "add_bos_token": False},
        "generation": {"bos_token_id": 0, "eos_token_id": 1},
    },
    "no beginning": {
        "library": lambda: byte_level(["<|im_end|>", "<|endoftext|>"]),
        "settings": {"eos_token": "<|im_end|>", "bos_token": None},
        "generation": {"eos_token_id": 0},
    },
    "ids in config.json alone": {
        "library": lambda: byte_level(["<a>", "<z>"]),
        "settings": {"bos_token": {"__type": "AddedToken", "content": "<a>", "lstrip": False}},
        "config": {"bos_token_id": 0, "eos_token_id": [1]},
    },
    "no end": {
        "library": lambda: byte_level(["<|endoftext|>"]),
        "settings": {},
        "config": {"bos_token_id": None, "eos_token_id": None},
    },
}  # fmt: skip


def make(case: dict[str, Any], folder: Path) -> None:
    """A folder as a hub would hold it; its model writes the first id that ends a text after some tokens."""
    library = case["library"]()
    vocab_size = library.get_vocab_size()
    kind = gpt2 if case["settings"].get("tokenizer_class") == "GPT2Tokenizer" else llama
    model = kind(vocab_size=vocab_size, tie_word_embeddings=False)
    config = {"bos_token_id": 40, "eos_token_id": 41} | case.get("config", {})
    model.save_pretrained(folder)
    library.save(str(folder / "tokenizer.json"))
    change(folder / "config.json", config)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for name, key in (("generation_config.json", "generation"), ("tokenizer_config.json", "settings")):
        if key in case:
            (folder / name).write_text(json.dumps(case[key]))
    ends = case.get("generation", config)["eos_token_id"]
    first = ends[0] if isinstance(ends, list) else ends
    if first is not None:  # the row that the sixth token comes from changes places with that of the end
        with torch.no_grad():
            model.lm_head.weight[[name.startswith("<0x") for name in by_id(library)]] = 0.0  # no broken characters
        written = continued(model, transformers.AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"], 6)[-1]
        rows = torch.arange(vocab_size)
        rows[first], rows[written] = written, first
        with torch.no_grad():
            model.lm_head.weight.copy_(model.lm_head.weight[rows])
        save_file(dict(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


def by_id(library: Tokenizer) -> list[str]:
    return [library.id_to_token(index) for index in range(library.get_vocab_size())]


def continued(model: Any, ids: list[int], n: int) -> list[int]:
    """`ids` and the likeliest `n` behind them, or fewer up to the end, by `transformers`."""
    prompt = torch.tensor([ids])
    settings = {"attention_mask": torch.ones_like(prompt), "do_sample": False, "pad_token_id": 0}
    return model.generate(prompt, max_new_tokens=n, **settings)[0].tolist()


def change(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def theirs(folder: Path) -> list[tuple[list[int], list[int], str]]:
    """Of each prompt: its ids, those of the whole greedy text, and its text, by `transformers` alone."""
    words = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    found = []
    for prompt in PROMPTS:
        ids = words(prompt)["input_ids"]
        if ids:  # without a template an empty prompt is nothing to transformers
            out = continued(model, ids, 30)
            found.append((ids, out, words.decode(out, skip_special_tokens=True)))
    return found


def ours(folder: Path, checkpoint: Path) -> list[tuple[list[int], list[int], str]]:
    """The same through an import and its checkpoint."""
    write_foreign(read_hf(str(folder))[0], checkpoint, "test")
    loaded = load(checkpoint)
    tokenizer = loaded.tokenizer
    found = []
    for prompt in PROMPTS:
        ids = encode_prompt(tokenizer, prompt)
        if prompt == "" and not (tokenizer.special.before or tokenizer.special.after):
            continue
        options = SamplingOptions(max_new_tokens=30, greedy=True)
        out = list(ids)
        for token in generate_tokens(loaded.model, torch.tensor([ids]), options, tokenizer.vocab_size):
            out.append(int(token))
            if out[-1] in tokenizer.special.stop:
                break
        text = loaded.generate(prompt, greedy=True, max_new_tokens=30)
        assert loaded.generate([prompt, prompt], greedy=True, max_new_tokens=30) == [text, text]
        assert "".join(piece for piece, _ in next(loaded.scored([prompt], [options], None))) == text[len(prompt) :]
        found.append((ids, out, text))
    return found


@pytest.mark.parametrize("name", CASES)
def test_greedy_texts_and_ids_are_those_of_transformers_there_and_back(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    make(case, tmp_path / "hf")
    expected = theirs(tmp_path / "hf")
    lengths = [len(out) - len(ids) for ids, out, _ in expected]
    assert (min(lengths) < 30) == (name != "no end"), "where there is an end, it is written"
    assert ours(tmp_path / "hf", tmp_path / "a.ckpt") == expected
    loaded = load(tmp_path / "a.ckpt")
    export_hf(loaded.model, loaded.tokenizer, tmp_path / "out")
    for file in ("generation_config.json", "tokenizer_config.json"):
        (before, after) = (read(tmp_path / folder / file) for folder in ("hf", "out"))
        assert after == before, file
    config = read(tmp_path / "out" / "config.json")
    assert [config[key] for key in ("bos_token_id", "eos_token_id")] == [
        read(tmp_path / "hf" / "config.json")[key] for key in ("bos_token_id", "eos_token_id")
    ]
    assert theirs(tmp_path / "out") == expected
    assert ours(tmp_path / "out", tmp_path / "b.ckpt") == expected
    assert load(tmp_path / "b.ckpt").tokenizer.special == loaded.tokenizer.special
    export_file(loaded.model, loaded.checkpoint, tmp_path / "a.safetensors")
    assert read_file(str(tmp_path / "a.safetensors")).tokenizer.special == loaded.tokenizer.special


def read(path: Path) -> Any:
    return (json.loads(path.read_text()) or None) if path.exists() else None


def test_a_vocabulary_with_merges_takes_the_template_of_its_settings(tmp_path: Path) -> None:
    case = {"library": lambda: byte_level(["<s>", "</s>"]), "settings": {}, "generation": {"eos_token_id": 1}}
    make(case, tmp_path / "hf")
    fields = read(tmp_path / "hf" / "tokenizer.json")
    (tmp_path / "hf" / "tokenizer.json").unlink()
    (tmp_path / "hf" / "vocab.json").write_text(json.dumps(fields["model"]["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in fields["model"]["merges"]]
    (tmp_path / "hf" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    settings = {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<s>", "bos_token": "<s>", "eos_token": "</s>"}
    settings |= {"add_bos_token": True, "add_eos_token": True}
    (tmp_path / "hf" / "tokenizer_config.json").write_text(json.dumps(settings))
    expected = theirs(tmp_path / "hf")
    assert (expected[0][0][0], expected[0][0][-1]) == (0, 1)
    assert ours(tmp_path / "hf", tmp_path / "a.ckpt") == expected
    loaded = load(tmp_path / "a.ckpt")
    export_hf(loaded.model, loaded.tokenizer, tmp_path / "out")
    assert theirs(tmp_path / "out") == ours(tmp_path / "out", tmp_path / "b.ckpt") == expected


@pytest.mark.parametrize(
    ("file", "fields", "note"),
    [
        ("config.json", {"eos_token_id": 7}, "eos_token_id is 1 in generation_config.json, 7 in config.json: the"),
        ("generation_config.json", {"eos_token_id": 999}, "eos_token_id=999 is outside the vocabulary of "),
        ("generation_config.json", {"eos_token_id": 5}, "the tokenizer's eos_token is '<z>' (1), generation"),
        ("generation_config.json", {"repetition_penalty": 1.3}, "repetition_penalty=1.3 is kept for an export"),
        ("tokenizer_config.json", {"add_bos_token": False}, "add_bos_token=false in tokenizer_config.json, but"),
        ("special_tokens_map.json", {"eos_token": "<a>"}, "eos_token is '<z>' in tokenizer_config.json, '<a>' in"),
    ],
)  # fmt: skip
def test_what_files_disagree_about_is_one_line_that_says_which_counts(
    file: str, fields: dict[str, Any], note: str, tmp_path: Path
) -> None:
    make(CONSISTENT, tmp_path)
    assert read_hf(str(tmp_path))[0].notes == []
    (tmp_path / file).write_text(json.dumps((read(tmp_path / file) or {}) | fields))
    notes = read_hf(str(tmp_path))[0].notes
    assert any(note in each for each in notes), notes
    assert not any("\n" in each for each in notes)


CONSISTENT = {
    "library": lambda: byte_level(["<a>", "<z>"], "<a> $A"),
    "config": {"bos_token_id": 0, "eos_token_id": 1},
    "settings": {"bos_token": "<a>", "eos_token": "<z>", "added_tokens_decoder": {}},
    "generation": {"bos_token_id": 0, "eos_token_id": 1},
}


@pytest.mark.parametrize("value", ["1", True, 1.5, [1, None], {"id": 1}])
def test_an_id_that_is_none_is_one_line(value: Any, tmp_path: Path) -> None:
    make(CONSISTENT, tmp_path)
    change(tmp_path / "generation_config.json", {"eos_token_id": value})
    with pytest.raises(CheckpointError, match="must be an id, a list of ids, or null") as error:
        read_hf(str(tmp_path))
    assert "\n" not in str(error.value)


def test_sentencepiece_alone_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"tokenizer\.model alone cannot be read.*save_pretrained") as error:
        find_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_corpus_is_closed_by_the_end_that_the_files_name(tmp_path: Path) -> None:
    """Also for training: the published names are only for a file that stands alone."""
    library = byte_level(["<|endoftext|>", "<|im_end|>"], "<|endoftext|> $A")
    library.save(str(tmp_path / "tokenizer.json"))
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        assert find_tokenizer(str(source)).end_of_text == 0
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    tokenizer = tokenizer_from_folder(tmp_path)
    assert (tokenizer.end_of_text, tokenizer.special.before) == (1, ())
    again = tokenizer_from_json(tokenizer.to_json())
    assert (again.end_of_text, again.fingerprint) == (1, tokenizer.fingerprint)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": None}))
    assert tokenizer_from_json(tokenizer_from_folder(tmp_path).to_json()).end_of_text is None


def test_ids_of_another_tokenizer_still_end_a_text(tmp_path: Path) -> None:
    """Without its tokenizer a model of numbers stops where transformers does, and writes that number."""
    make(CASES["Llama 3"], tmp_path / "hf")
    write_foreign(read_hf(str(tmp_path / "hf"), "ids")[0], tmp_path / "a.ckpt", "test")
    ids, out, _ = theirs(tmp_path / "hf")[1]
    text = load(tmp_path / "a.ckpt").generate(" ".join(map(str, ids)) + " ", greedy=True, max_new_tokens=30)
    assert [int(word) for word in text.split()] == out


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_a_model_of_ours_keeps_its_end_of_text(kind: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(kind)
    export_hf(random_gpt(tiny_config(tokenizer.vocab_size)), tokenizer, tmp_path / "hf")
    foreign, _ = read_hf(str(tmp_path / "hf"))
    assert foreign.tokenizer.special.meaning == tokenizer.special.meaning
    assert foreign.notes == []


def test_a_checkpoint_from_before_special_tokens_reads_as_it_did(tmp_path: Path) -> None:
    make(CONSISTENT, tmp_path / "hf")
    write_foreign(read_hf(str(tmp_path / "hf"))[0], tmp_path / "a.ckpt", "test")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    damaged = {**content, "minigpt": {**content["minigpt"], "special_tokens": {"stop": [3]}}}
    del content["minigpt"]["special_tokens"]
    torch.save(content, tmp_path / "old.ckpt")
    special = load(tmp_path / "old.ckpt").tokenizer.special
    assert (special.stop, special.before) == ((1,), ())  # the end of a document alone
    torch.save(damaged, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="special_tokens must be a mapping of"):
        load(tmp_path / "bad.ckpt")
