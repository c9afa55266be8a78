"""Configs and options of `minigpt fit`: names, types, merging, interpolation, and every mistake in one line."""

from pathlib import Path

import pytest
import yaml

from minigpt.cli.experiment import build_experiment, read_experiment
from minigpt.cli.keys import check_names, known_keys, trainer_arguments
from minigpt.cli.main import main
from minigpt.cli.yaml_files import load_yaml
from minigpt.errors import ConfigError
from minigpt.training.config import TRAINER_OWNED


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_trainer_arguments_are_lightnings() -> None:
    import inspect

    from lightning.pytorch import Trainer

    assert trainer_arguments() == list(inspect.signature(Trainer.__init__).parameters)[1:]
    assert set(TRAINER_OWNED) <= set(trainer_arguments())


def test_known_keys() -> None:
    known = known_keys()
    assert {"seed_everything", "model.n_head", "optim.lr", "data.corpus", "run.keep", "trainer.max_steps"} <= set(known)
    assert "model.vocab_size" not in known
    assert "trainer.max_epochs" not in known


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.n_heads", "4"], "unknown key model.n_heads, did you mean model.n_head?"),
        (["--n_layer", "3"], "unknown key n_layer, did you mean model.n_layer?"),
        (["--learning_rate=3"], "unknown key learning_rate, did you mean optim.lr?"),
        (["--model.d_model", "3"], "unknown key model.d_model, did you mean model.n_embd?"),
        (["--model.rope_theta", "3"], "unknown key model.rope_theta, did you mean model.rotary_base?"),
        (["--per_device_train_batch_size=3"], "did you mean data.batch_size?"),
        (["--gradient_accumulation_iters=3"], "did you mean trainer.accumulate_grad_batches?"),
        (["--trainer.max_step", "3"], "unknown key trainer.max_step, did you mean trainer.max_steps?"),
        (
            ["--trainer.max_epochs", "3"],
            "trainer.max_epochs is not set by hand: trainer.max_steps says how long a run is",
        ),
        (["--model.vocab_size", "3"], "model.vocab_size is not set by hand: it is the tokenizer's"),
        (["--model.n_he", "3"], "unknown key model.n_he, did you mean model.n_head?"),
        (["--model.n_layer", "x"], "model.n_layer=x must be a whole number"),
        (["--model.n_layer", "1.5"], "model.n_layer=1.5 must be a whole number"),
        (["--model.n_kv_head", "x"], "model.n_kv_head=x must be a whole number or null"),
        (["--run.compile", "maybe"], "run.compile=maybe must be true or false"),
        (["--model.position", "rotery"], "model.position='rotery' must be one of learned, sinusoidal, rotary"),
        (["--trainer.precision", "8"], "trainer.precision=8 must be one of 32-true, bf16-true"),
        (["--model.position", "rotery"], "did you mean rotary?"),
        (["--model.n_embd", "65"], "model.n_embd=65 must be divisible by model.n_head=8"),
        (["--model.n_kv_head", "3"], "model.n_head=8 must be divisible by model.n_kv_head=3"),
        (["--model.sliding_window=0"], "error: model.sliding_window=0 must be at least 1"),
        (["--model.mup_base_width=64", "--model.n_ff=9"], "leave model.n_ff=9 to its default"),
        (["--model.window_pattern=SL"], "error: model.window_pattern=SL has no effect without model.sliding_window"),
        (["--model.rotary_base=9"], "with model.position=learned: leave it at 10000.0, or choose rotary"),
        (["--run.panels", "[attention:]"], "run.panels=[attention:] cannot be read as a list, as in [a, b]"),
        (["--run.panel_heads", "[[0]]"], "run.panel_heads=[0] must be a list of 2 values"),
        (["--model.rotary_base", "5"], "rotary_base=5.0"),
        (["--optim.betas", "[0.9]"], "optim.betas=[0.9] must be a list of 2 values"),
        (["--optim.lr", "-1"], "optim.lr=-1.0 must be more than 0"),
        (["--trainer.max_steps", "x"], "trainer.max_steps=x must be a whole number"),
        (["--seed_everything", "x"], "seed_everything=x must be a whole number"),
        (["--model.n_head"], "--model.n_head: expected one argument"),
        (["stray"], "unexpected stray"),
        (["configs/base.yaml"], "unexpected configs/base.yaml, did you mean --config configs/base.yaml?"),
        (["base"], "unexpected base, did you mean --config base?"),
        (["--model=foo"], "--model is a group of settings: give them one by one, as --model.NAME VALUE"),
        (["--seed_everything=-1"], "seed_everything=-1 must lie between"),
        (
            ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=xx"],
            "trainer.callbacks: lightning.pytorch.callbacks.Timer cannot be built: MisconfigurationException: `Timer(",
        ),
        (["--config", "/no/such.yaml"], "--config /no/such.yaml: there is no such file"),
    ],
)
def test_command_line_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("minigpt: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  n_heads: 4\n", r"c.yaml: unknown key model.n_heads, did you mean model.n_head\?"),
        ("modle:\n  n_head: 4\n", r"c.yaml: unknown key modle"),
        ("model:\n  n_head: 4\n n_layer: [\n", r"c.yaml:3: is not YAML"),
        ("model: {n_head: 4\n", r"c.yaml:\d: is not YAML"),
        ("- 1\n- 2\n", "c.yaml: holds a list, and a config is a mapping of groups"),
        ("model:\n  n_embd: ${model.n_hedd}\n", "broken interpolation: model.n_embd: .*n_hedd"),
        ("model: 3\n", "c.yaml: model=3 must be a mapping of settings"),
        ("trainer: [1]\n", r"c.yaml: trainer=\[1\] must be a mapping of settings"),
        ("model:\n", "c.yaml: model is empty: leave it out, or give it settings"),
        ("model:\n  n_layer: 'two'\n", "model.n_layer=two must be a whole number"),
        ("model:\n  bias: 3\n", "model.bias=3 must be true or false"),
        ("data:\n  split: half\n", "data.split=half must be one of auto, documents, position"),
        ("\tmodel: 3\n", r"c.yaml:1: is not YAML"),
    ],
)
def test_yaml_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_experiment(["--config", path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: {name: 2024-13-45}", "holds a value that cannot be read: month must be in 1..12; a text goes in quotes"),
        (f"seed_everything: {'1' * 5000}", "holds a value that cannot be read"),
        ("run: {name: !!float x}", "holds a value that cannot be read"),
        ("run: {name: !!timestamp x}", "holds a value that cannot be read"),
        ("run: {name: !!bool x}", "holds a value that cannot be read"),
        ("run: {name: !!int ''}", "holds a value that cannot be read"),
        ("[" * 3000 + "]" * 3000, "is nested too deeply to be read"),
        ("run: &a\n  name: *a\n", "is nested deeper than 50 levels, or holds itself"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
            "holds more than 100,000 values",
        ),
        ("model:\n  n_layer: 1\n  n_layer: 2\n", "c.yaml:3: is not YAML: n_layer is given twice"),
    ],
)
def test_yaml_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_experiment(["--config", write(tmp_path / "c.yaml", text)])


def test_a_merge_is_no_double_key(tmp_path: Path) -> None:
    text = "model: &small {n_layer: 1}\nrun:\n  <<: {keep: 1}\n  keep: 2\n"
    assert load_yaml(Path(write(tmp_path / "c.yaml", text)))["run"] == {"keep": 2}


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("run.log_every", "a whole number, or left out"),
        ("run.compile", "true or false, or left out"),
        ("optim.lr", "a number, or left out"),
        ("data.corpus", "a text, or left out"),
        ("trainer.max_steps", "a whole number"),
        ("trainer.accumulate_grad_batches", "a whole number"),
    ],
)
def test_null_is_refused_where_it_means_nothing(tmp_path: Path, key: str, rule: str) -> None:
    group, name = key.split(".")
    with pytest.raises(ConfigError, match=f"{key}=null must be {rule}"):
        read_experiment(["--config", write(tmp_path / "c.yaml", f"{group}: {{{name}: null}}\n")])
    read_experiment(["--config", write(tmp_path / "c.yaml", "model: {n_kv_head: null}\n")])


def test_warmup_beyond_all_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim.warmup_steps=.* must lie between 0 and"):
        read_experiment(["--config", write(tmp_path / "c.yaml", f"optim: {{warmup_steps: 1{'0' * 400}}}\n")])


def test_binary_config(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"c.yaml: cannot be read"):
        read_experiment(["--config", str(tmp_path / "c.yaml")])
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_experiment(["--config", str(tmp_path)])


def test_nearest_file_name_is_offered(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "")
    with pytest.raises(ConfigError, match=r"did you mean .*base.yaml\?"):
        load_yaml(tmp_path / "bas.yaml")


def test_unknown_class_arguments_are_lightnings_matter() -> None:
    check_names(["--trainer.callbacks+=lightning.pytorch.callbacks.Timer", "--trainer.logger.init_args.anything=3"])


def test_several_files_options_and_interpolation_across_groups(tmp_path: Path) -> None:
    """The last one wins, and ${...} sees the winners."""
    first = write(
        tmp_path / "first.yaml",
        "model:\n  n_embd: 32\n  n_ff: ${model.n_embd}\n"
        "optim:\n  warmup_steps: ${trainer.max_steps}\ntrainer:\n  max_steps: 5\n",
    )
    second = write(tmp_path / "second.yaml", "model:\n  n_embd: 48\n")
    experiment, ckpt_path = build_experiment(
        ["--config", first, "--config", second, "--trainer.max_steps", "7", "--ckpt_path", "last"]
    )
    assert (experiment.model.n_embd, experiment.model.n_ff) == (48, 48)
    assert (experiment.trainer["max_steps"], experiment.optim.warmup_steps) == (7, 7)
    assert experiment.trainer["gradient_clip_val"] == 1.0  # not named in the file: base.yaml's value
    assert ckpt_path == "last"
    saved = yaml.safe_load(experiment.yaml)
    assert saved["optim"]["warmup_steps"] == 7
    assert "ckpt_path" not in saved
    assert "config" not in saved


def test_saved_config_gives_the_same_experiment(tmp_path: Path) -> None:
    words = ["--model.n_head=4", "--optim.schedule=constant", "--trainer.callbacks+=lightning.pytorch.callbacks.Timer"]
    experiment, _ = build_experiment(words)
    again, _ = build_experiment(["--config", write(tmp_path / "config.yaml", experiment.yaml)])
    assert again.yaml == experiment.yaml
    assert (again.model, again.optim, again.data, again.run) == (
        experiment.model, experiment.optim, experiment.data, experiment.run
    )  # fmt: skip
    assert [type(callback).__name__ for callback in again.trainer["callbacks"]] == ["Timer"]


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--model.n_head=4", "--print_config"])
    assert ended.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out)["model"]["n_head"] == 4


def test_acceptance_run_of_modern_parts(tmp_path: Path, corpus_file: Path) -> None:
    words = "--model.position rotary --model.norm rmsnorm --model.norm_placement post --model.activation swiglu"
    root = f"--run.root={tmp_path}"
    assert (
        main(
            [
                "fit",
                *words.split(),
                f"--data.corpus={corpus_file}",
                "--data.vocab_size=300",
                "--trainer.max_steps=2",
                root,
            ]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02binary" * 100, "text.bin"),
        ("caf\xe9 au lait ".encode("latin-1") * 100, "UTF-8"),
        (b"short", "too short"),
    ],
)
def test_texts_that_cannot_be_used(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.bin"
    path.write_bytes(content)
    assert main(["fit", f"--data.corpus={path}", "--data.tokenizer=byte", f"--run.root={tmp_path / 'runs'}"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("minigpt: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "runs").exists()
