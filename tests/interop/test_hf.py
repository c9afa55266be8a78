"""Hugging Face models against `transformers` itself: logits, gradients, greedy texts, files, there and back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import TEXT, random_gpt, tiny_config, tiny_tokenizer
from safetensors.torch import save_file

from minigpt.api import load
from minigpt.errors import CheckpointError, ConfigError, MinigptError
from minigpt.interop.families import FAMILIES, read_config
from minigpt.interop.foreign import build, largest_difference, write_foreign
from minigpt.interop.hf import export_hf, read_hf
from minigpt.interop.names import to_theirs
from minigpt.interop.reference import compare_with_transformers

from .foreign import REFERENCES, Malicious, gpt2, llama, save, tokens_for, transformers

LLAMA = {"position": "rotary", "norm": "rmsnorm", "bias": False, "activation": "swiglu"}
OURS = {
    "gpt2": {"norm_eps": 2e-3},
    "gpt2 untied, tanh": {"tie_embeddings": False, "activation": "gelu_tanh", "n_ff": 24},
    "gpt2 explicit": {"attention": "explicit", "activation": "relu"},
    "llama": LLAMA | {"n_kv_head": 1, "tie_embeddings": False, "rotary_base": 700.0, "norm_eps": 1e-6},
    "llama with biases, geglu": LLAMA | {"bias": True, "activation": "geglu"},
}


@pytest.mark.parametrize("name", REFERENCES)
def test_logits_and_gradients_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    reference = REFERENCES[name]()
    foreign, _ = read_hf(str(save(reference, tmp_path)))
    model, tokens = build(foreign), tokens_for(41)
    logits, expected = model(tokens), reference(tokens).logits
    _, relative = largest_difference(logits.detach(), expected.detach())
    assert relative < 2e-6
    assert expected.abs().max() > 1  # a difference would be seen
    for result in (logits, expected):
        F.cross_entropy(result[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    ours = {part: parameter.grad for part, parameter in model.named_parameters()}
    family = FAMILIES[reference.config.model_type]
    gradients = to_theirs(family.names, foreign.config, ours)
    for part, parameter in reference.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, part
        torch.testing.assert_close(gradients[part], parameter.grad, rtol=1e-3, atol=2e-6, msg=part)


@pytest.mark.parametrize("name", REFERENCES)
def test_greedy_continuations_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """64 tokens, ours through the checkpoint, the cache and the text, theirs through their own `generate`."""
    reference = REFERENCES[name]()
    foreign, _ = read_hf(str(save(reference, tmp_path / "hf")))
    assert write_foreign(foreign, tmp_path / "a.ckpt", "test") == 0
    loaded = load(tmp_path / "a.ckpt")
    prompt = [3, 1, 4, 15]
    text = loaded.generate("3 1 4 15 ", greedy=True, max_new_tokens=64)
    expected = reference.generate(torch.tensor([prompt]), max_new_tokens=64, do_sample=False, pad_token_id=0)
    assert [int(word) for word in text.split()] == expected[0].tolist()
    assert len(set(expected[0].tolist())) > 3


def weights_as(kind: str, reference, folder: Path) -> None:
    """The same model in another kind of file."""
    if kind == "sharded":
        reference.save_pretrained(folder, max_shard_size="20KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 2
    elif kind == "bare":
        reference.base_model.save_pretrained(folder)
    else:
        save(reference, folder)
        state = {name: value.clone() for name, value in reference.state_dict().items()}
        if kind == "old bin":  # with masks, as releases before 2023 had them
            state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 96, 96, dtype=torch.uint8)
            state["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind != "old bin")
        (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        *((kind, gpt2) for kind in ("sharded", "bare", "bin", "old bin")),
        *((kind, lambda: llama(tie_word_embeddings=True)) for kind in ("sharded", "bare", "bin")),
    ],
)
def test_every_kind_of_file_gives_the_same_weights(kind: str, make, tmp_path: Path) -> None:
    reference = make()
    expected = read_hf(str(save(reference, tmp_path / "whole")))[0].weights
    weights_as(kind, reference, tmp_path / "other")
    found = read_hf(str(tmp_path / "other"))[0].weights
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.01), (torch.float16, 0.00125)])
def test_16_bit_weights_drift_little(dtype: torch.dtype, bound: float, tmp_path: Path) -> None:
    """A GPT-2 saved in 16 bits becomes float32; its logits move by at most `bound` of the largest one.

    bfloat16 keeps 8 bits of each weight, float16 11, so that rounding moves it by 1 part in 512 or 4096 at most.
    """
    reference = gpt2()
    tokens = tokens_for(41)
    with torch.no_grad():
        expected = reference(tokens).logits
    foreign, _ = read_hf(str(save(reference.to(dtype), tmp_path)))
    assert {value.dtype for value in foreign.weights.values()} == {torch.float32}
    with torch.no_grad():
        difference, relative = largest_difference(build(foreign)(tokens), expected)
    print(f"{dtype}: logits moved by {difference:.3g}, {relative:.3g} of the largest")
    assert bound / 10 < relative < bound


DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("said", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kept", [*DTYPES, None], ids=[*map(str, DTYPES), "mixed"])
def test_the_reference_has_the_weights_as_they_are(kept, said: str, key: str, tmp_path: Path) -> None:
    """Whatever dtype config.json names: in it transformers would round them."""
    reference = llama()
    state = {name: value.clone() for name, value in reference.state_dict().items()}
    for number, name in enumerate(state):
        state[name] = state[name].to(DTYPES[number % 3] if kept is None else kept)
    path = save(reference, tmp_path) / "config.json"
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({name: fields[name] for name in fields if name != "dtype"} | {key: said}))
    foreign, folder = read_hf(str(tmp_path))
    assert compare_with_transformers(build(foreign), folder) < 1e-4


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_export_and_import_are_the_same_bits(name: str, kind: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(kind)
    model = random_gpt(tiny_config(tokenizer.vocab_size + 3, dropout=0.15, **OURS[name]))
    exported = export_hf(model, tokenizer, tmp_path / "hf")
    assert (exported.difference, exported.notes) == (0, [])
    assert exported.from_transformers is not None
    foreign, _ = read_hf(str(tmp_path / "hf"))
    assert foreign.tokenizer.fingerprint == tokenizer.fingerprint
    assert all(torch.equal(foreign.weights[key], value) for key, value in model.state_dict().items())
    ours = replace(model.config, attention="fused", n_kv_head=model.config.kv_heads, n_ff=model.config.ff_width)
    config = foreign.config
    assert replace(config, n_kv_head=config.kv_heads, n_ff=config.ff_width) == ours


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_auto_classes_open_an_export(name: str, kind: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(kind)
    model = random_gpt(tiny_config(tokenizer.vocab_size, block_size=128, **OURS[name]))
    export_hf(model, tokenizer, tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    encoded = words(TEXT, return_tensors="pt")
    assert encoded["input_ids"][0].tolist() == tokenizer.encode(TEXT)
    assert words.decode(encoded["input_ids"][0]) == TEXT
    assert (words.eos_token_id, theirs.generation_config.eos_token_id) == (tokenizer.end_of_text,) * 2
    with torch.no_grad():
        _, relative = largest_difference(theirs(**encoded).logits, model(torch.tensor([tokenizer.encode(TEXT)])))
    assert relative < 2e-6


def test_a_gpt2_without_biases_gets_zeros_and_a_note(tmp_path: Path) -> None:
    model = random_gpt(tiny_config(bias=False))
    exported = export_hf(model, tiny_tokenizer("byte"), tmp_path / "hf")
    assert exported.notes == ["bias=false: a GPT-2 has biases, and gets 13 that are zero"]
    foreign, _ = read_hf(str(tmp_path / "hf"))
    assert foreign.config.bias
    assert not any(value.any() for name, value in foreign.weights.items() if name.endswith(".bias"))


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({"position": "alibi"}, ["position=alibi is not learned", "position=alibi is not rotary"]),
        ({"n_kv_head": 1}, ["n_kv_head=1 is not n_head"]),
        ({"norm_placement": "post", "qk_norm": True}, ["norm_placement=post is not pre", "qk_norm=True is not False"]),
        (LLAMA | {"activation": "relu"}, ["norm=rmsnorm is not layernorm", "activation=relu is not swiglu or geglu"]),
    ],
)
def test_what_no_family_expresses_is_one_line_and_writes_nothing(settings, reasons, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        export_hf(random_gpt(tiny_config(**settings)), tiny_tokenizer("byte"), tmp_path / "hf")
    assert all(reason in str(error.value) for reason in reasons)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


REFUSED = [
    (gpt2, {"model_type": "mistral"}, "model_type='mistral' must be one of gpt2, llama"),
    (gpt2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True cannot be imported"),
    (gpt2, {"scale_attn_weights": False}, "scale_attn_weights=False cannot be imported: it must be True"),
    (gpt2, {"add_cross_attention": True}, "add_cross_attention=True"),
    (gpt2, {"quantization_config": {"bits": 4}}, "quantization_config="),
    (gpt2, {"activation_function": "quick_gelu"}, "activation_function='quick_gelu' must be one of gelu_new"),
    (gpt2, {"activation_function": ["gelu"]}, "activation_function=['gelu'] must be one of"),
    (gpt2, {"n_head": 5}, "n_embd=32 must be divisible by n_head=5"),
    (gpt2, {"n_layer": "3"}, "n_layer='3' must be a whole number"),
    (llama, {"hidden_act": "gelu_new"}, "hidden_act='gelu_new' must be one of silu, swish, gelu"),
    (llama, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling={'factor': 2.0, 'type': 'linear'}"),
    (
        llama,
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}},
        "'rope_type': 'llama3'} cannot be imported",
    ),
    (llama, {"rope_parameters": 3}, "rope_parameters=3 must be a mapping"),
    (llama, {"attention_bias": True}, "attention_bias=True with mlp_bias=False"),
    (llama, {"head_dim": 16}, "head_dim=16 cannot be imported"),
    (llama, {"sliding_window": 4096}, "sliding_window=4096 cannot be imported"),
    (llama, {"rms_norm_eps": 0}, "norm_eps=0 must be a finite number above 0"),
]


@pytest.mark.parametrize(("make", "change", "message"), REFUSED, ids=[next(iter(change)) for _, change, _ in REFUSED])
def test_a_config_that_we_cannot_express_is_one_line(make, change, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        read_hf(str(save(make(), tmp_path, **change)))
    assert str(error.value).startswith(str(tmp_path / "config.json"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_left_out_fields_mean_what_transformers_means() -> None:
    for family, config in (("gpt2", transformers.GPT2Config()), ("llama", transformers.LlamaConfig())):
        theirs = config.to_dict()
        for name, value in FAMILIES[family].defaults.items():
            # Filled in by transformers 5 when it builds a config, and written by no release under these names any more.
            if name not in {"rope_theta", "rope_scaling", "rope_parameters", "head_dim", "num_key_value_heads"}:
                assert theirs[name] == value, name
        ours, full = (read_config(fields, "")[1] for fields in ({"model_type": family}, theirs))
        assert replace(ours, n_kv_head=ours.kv_heads) == replace(full, n_kv_head=full.kv_heads)


def test_older_releases_wrote_the_base_of_the_rotation_elsewhere() -> None:
    fields = llama().config.to_dict()
    assert read_config(fields, "")[1].rotary_base == 500.0
    del fields["rope_parameters"]
    assert read_config(fields | {"rope_theta": 1e6}, "")[1].rotary_base == 1e6
    assert read_config(fields, "")[1].rotary_base == 10000.0
    assert read_config(fields | {"rope_scaling": {"rope_type": "default"}}, "")[1].rotary_base == 10000.0


def test_dropouts_that_differ_are_told() -> None:
    _, config, notes = read_config(gpt2(embd_pdrop=0.0).config.to_dict(), "")
    assert config.dropout == 0.1
    assert len(notes) == 1
    assert "embd_pdrop=0.0" in notes[0]
    _, config, notes = read_config(llama(attention_dropout=0.3).config.to_dict(), "")
    assert config.dropout == 0.3
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "config.json is not JSON"),
        ("config.json", "[]", "must be a mapping"),
        ("config.json", None, "config.json cannot be read"),
        ("model.safetensors", "rubbish", "cannot be read as safetensors"),
        ("model.safetensors", None, "no weights there: none of model.safetensors, "),
    ],
)
def test_a_damaged_folder_is_one_line(name: str, content, message: str, tmp_path: Path) -> None:
    save(gpt2(), tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError) as error:
        read_hf(str(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: dict.fromkeys(files, "../model.safetensors"), "is not the name of a file beside it"),
        (lambda files: files | {"transformer.wpe.weight": "gone.safetensors"}, "gone.safetensors, which it names"),
        (lambda files: files | {"nothing": min(files.values())}, "weight 'nothing' is not in"),
        (lambda files: None, "needs a `weight_map`"),
    ],
)
def test_a_damaged_index_is_one_line(change, message: str, tmp_path: Path) -> None:
    weights_as("sharded", gpt2(), tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"weight_map": change(index["weight_map"])}))
    with pytest.raises(CheckpointError, match=message) as error:
        read_hf(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_pickle_with_code_is_never_run(tmp_path: Path) -> None:
    weights_as("bin", gpt2(), tmp_path)
    torch.save({"transformer.wte.weight": Malicious(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled objects") as error:
        read_hf(str(tmp_path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_larger_than_the_model_is_one_line(tmp_path: Path) -> None:
    save(gpt2(), tmp_path)
    (tmp_path / "tokenizer.json").write_text(tiny_tokenizer("bpe").to_json())
    with pytest.raises(CheckpointError, match=r"has 290 tokens, more than the model's vocab_size=41$"):
        read_hf(str(tmp_path))


def test_a_model_without_a_tokenizer_reads_numbers(tmp_path: Path) -> None:
    foreign, _ = read_hf(str(save(gpt2(), tmp_path)))
    assert (foreign.tokenizer.kind, foreign.tokenizer.vocab_size) == ("ids", 41)
    assert len(foreign.notes) == 1
    assert "no tokenizer there" in foreign.notes[0]


def test_a_wrong_activation_is_noticed_against_transformers(tmp_path: Path) -> None:
    """The comparison can fail: relu is not gelu."""
    foreign, folder = read_hf(str(save(gpt2(), tmp_path)))
    assert compare_with_transformers(build(foreign), folder) < 1e-4
    wrong = replace(foreign, config=replace(foreign.config, activation="relu"))
    with pytest.raises(CheckpointError, match="the logits of transformers differ by"):
        compare_with_transformers(build(wrong), folder)


def test_a_failed_comparison_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object) -> float:
        raise CheckpointError("the logits differ")

    monkeypatch.setattr("minigpt.interop.hf.compare_with_transformers", differ)
    with pytest.raises(MinigptError, match="the logits differ"):
        export_hf(random_gpt(tiny_config()), tiny_tokenizer("byte"), tmp_path / "hf")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_leave_nothing(tmp_path: Path) -> None:
    reference = gpt2()
    with torch.no_grad():
        reference.lm_head.weight[3, 3] = torch.nan
    foreign, _ = read_hf(str(save(reference, tmp_path / "hf")))
    with pytest.raises(CheckpointError, match="not finite numbers"):
        write_foreign(foreign, tmp_path / "out" / "a.ckpt", "test")
    assert not list((tmp_path / "out").iterdir())
