"""`minigpt.load` and what it gives."""

import inspect
import subprocess
import sys

import pytest
import torch
from helpers import TEXT, random_gpt, tiny_config, tiny_tokenizer, write_checkpoint

import minigpt
from minigpt.api import LoadedGPT, load
from minigpt.errors import CheckpointError, ConfigError, DataError
from minigpt.generate.options import SamplingOptions
from minigpt.model.gpt import GPT
from minigpt.system.devices import find_device


@pytest.fixture(params=["byte", "char", "bpe"])
def loaded(request, tmp_path) -> LoadedGPT:
    tokenizer = tiny_tokenizer(request.param)
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(tokenizer.vocab_size + 7), tokenizer)
    return load(tmp_path / "a.ckpt")


def test_it_gives_the_model_and_what_belongs_to_it(loaded):
    assert isinstance(loaded.model, GPT)
    assert not loaded.model.training
    assert loaded.model(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, loaded.config.vocab_size)
    assert loaded.config == loaded.checkpoint.config
    assert loaded.decode(loaded.encode(TEXT)) == TEXT


def test_a_text_begins_with_its_prompt_and_follows_the_seed(loaded):
    text = loaded.generate("The", max_new_tokens=30, seed=1)
    assert text.startswith("The")
    assert len(text) > len("The")
    assert loaded.generate("The", max_new_tokens=30, seed=1) == text
    assert loaded.generate("The", max_new_tokens=30, seed=2) != text


def test_the_stream_joins_to_the_text(loaded):
    settings = {"max_new_tokens": 40, "seed": 5, "temperature": 1.3, "top_k": 20}
    pieces = list(loaded.stream("The", **settings))
    assert pieces[0] == "The"
    assert len(pieces) > 2
    assert all(pieces)
    assert "".join(pieces) == loaded.generate("The", **settings)
    of_generate = dict(inspect.signature(loaded.generate).parameters)
    for name in ("prompt", "n_samples", "batch_size"):  # a stream is one text
        del of_generate[name]
    own = dict(inspect.signature(loaded.stream).parameters)
    del own["prompt"]
    assert own == of_generate


def test_a_sample_does_not_depend_on_how_many_there_are(loaded):
    settings = {"max_new_tokens": 25, "temperature": 1.5}
    three = loaded.generate("The", n_samples=3, seed=4, **settings)
    assert len(set(three)) == 3
    assert loaded.generate("The", n_samples=2, seed=4, **settings) == three[:2]
    assert [loaded.generate("The", seed=4 + i, **settings) for i in range(3)] == three
    assert loaded.generate("The", n_samples=1, seed=4, **settings) == three[:1]


def test_a_text_of_several_prompts_is_the_one_of_its_prompt_alone(tmp_path):
    tokenizer = tiny_tokenizer("byte")
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(), tokenizer)
    loaded = load(tmp_path / "a.ckpt")
    loaded.model.double()  # no rounding decides
    given = ["The", "", "quick brown fox jumps", "The"]
    for settings in ({"greedy": True}, {"seed": 4, "temperature": 1.5}):
        expected = [loaded.generate(prompt, max_new_tokens=25, **settings) for prompt in given]
        assert loaded.generate(given, max_new_tokens=25, **settings) == expected
        assert loaded.generate(given, max_new_tokens=25, batch_size=3, **settings) == expected
        assert loaded.generate(given[:1], max_new_tokens=25, **settings) == expected[:1]
    samples = [text for prompt in given for text in loaded.generate(prompt, max_new_tokens=9, seed=1, n_samples=3)]
    assert loaded.generate(given, max_new_tokens=9, seed=1, n_samples=3) == samples
    assert loaded.generate("The", max_new_tokens=9, seed=1, n_samples=3, batch_size=2) == samples[:3]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"prompt": ["a"] * 20}, [16, 4]),
        ({"prompt": ["a"] * 5, "batch_size": 2}, [2, 2, 1]),
        ({"prompt": "a", "n_samples": 3}, [1, 1, 1]),
        ({"prompt": "a", "n_samples": 3, "batch_size": 8}, [3]),
        ({"prompt": ["a", "b"], "n_samples": 3}, [6]),
    ],
)
def test_how_many_texts_are_computed_at_once(loaded, settings, rows):
    passes: list[int] = []
    loaded.model.token_embedding.register_forward_pre_hook(lambda module, args: passes.append(args[0].shape[0]))
    settings = {"prompt": "T", **settings}
    given = settings.pop("prompt")
    given = "T" if isinstance(given, str) else ["T"] * len(given)
    loaded.generate(given, max_new_tokens=1, seed=0, **settings)
    assert [size for size in passes if size > 1 or 1 in rows] == rows


def test_every_setting_reaches_the_sampling(loaded):
    greedy = loaded.generate("The", greedy=True, max_new_tokens=20)
    assert loaded.generate("The", greedy=True, max_new_tokens=20, use_cache=False) == greedy
    assert loaded.generate("The", top_k=1, seed=0, max_new_tokens=20) == greedy
    assert loaded.generate("The", top_p=1e-9, seed=0, max_new_tokens=20) == greedy
    assert loaded.generate("The", min_p=1.0, seed=0, max_new_tokens=20) == greedy
    assert loaded.generate("The", temperature=1e-9, seed=0, max_new_tokens=20) == greedy
    assert loaded.generate("The", greedy=True, max_new_tokens=20, context=2) != greedy
    assert loaded.generate("The", max_new_tokens=0) == "The"
    some = greedy[5]
    assert loaded.generate("The", greedy=True, max_new_tokens=20, stop=some) == "The" + greedy[3:].partition(some)[0]


def test_an_empty_prompt_is_enough(loaded):
    assert loaded.generate(max_new_tokens=20, seed=0)
    assert loaded.generate("", max_new_tokens=20, seed=0) == loaded.generate(max_new_tokens=20, seed=0)


def test_settings_that_cannot_work_are_refused_at_once(loaded):
    with pytest.raises(ConfigError, match="temperature=0"):
        loaded.generate(temperature=0)
    with pytest.raises(ConfigError, match="n_samples=0"):
        loaded.generate(n_samples=0)
    with pytest.raises(ConfigError, match="batch_size=0"):
        loaded.generate(["The", "The"], batch_size=0)
    with pytest.raises(ConfigError, match="holds no prompt"):
        loaded.generate([])
    with pytest.raises(ConfigError, match="context=17"):
        loaded.generate(["The", "The"], context=17)
    with pytest.raises(ConfigError, match="context=17"):
        loaded.stream("The", context=17)
    with pytest.raises(ConfigError, match="stop=''"):
        loaded.stream("The", stop="")


def test_characters_that_a_tokenizer_lacks_are_told(tmp_path):
    tokenizer = tiny_tokenizer("char")
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(tokenizer.vocab_size), tokenizer)
    with pytest.raises(DataError, match="'Ω'"):
        load(tmp_path / "a.ckpt").generate("Ω")


def test_a_model_that_diverged_is_told(tmp_path):
    model = random_gpt(tiny_config())
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    write_checkpoint(tmp_path / "a.ckpt", model, tiny_tokenizer("byte"))
    with pytest.raises(CheckpointError, match="diverged"):
        load(tmp_path / "a.ckpt").generate("The")


def test_prefer_chooses_the_checkpoint(tmp_path):
    for name, step in (("best", 20), ("step=00000040", 40)):
        write_checkpoint(tmp_path / f"checkpoints/{name}.ckpt", tiny_config(), tiny_tokenizer("byte"), step=step)
    assert load(tmp_path).checkpoint.step == 20
    assert load(tmp_path, prefer="last").checkpoint.step == 40


def test_devices():
    assert find_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert find_device("auto").type == expected
    for name in ("gpu", "cuda:99", "meta", "", None):
        with pytest.raises(ConfigError, match=f"device={name!r}"):
            find_device(name)


def test_loading_and_sampling_import_no_lightning(tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(290), tiny_tokenizer("bpe"))
    code = (
        "import sys, minigpt, torch;"
        f"r = minigpt.load({str(tmp_path / 'a.ckpt')!r});"
        "print(r.model(torch.zeros(1, 4, dtype=torch.long)).shape, len(r.generate('The', max_new_tokens=3)) > 3);"
        "sys.exit(any(name.split('.')[0] in ('lightning', 'pytorch_lightning') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch.Size([1, 4, 290]) True\n"


def test_load_is_a_name_of_the_package():
    assert minigpt.load is load


def test_a_text_is_scored_token_by_token(loaded):
    text = loaded.decode(loaded.encode(TEXT)[: loaded.config.block_size])
    scored = loaded.score(text, n_alternatives=2)
    assert [each.token for each in scored] == loaded.encode(text)
    assert all(len(each.alternatives) == 2 and each.probability <= each.alternatives[0][1] for each in scored[1:])
    with pytest.raises(ConfigError, match="more than block_size=16"):
        loaded.score(TEXT * 9)
    with pytest.raises(ConfigError, match="prompt=\\[\\] holds no prompt"):
        loaded.scored([], [SamplingOptions()], None)
