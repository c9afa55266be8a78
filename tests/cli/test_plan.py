"""`minigpt plan`: a whole plan without lightning or a network, and what is refused in one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lab.folders import write_run

from minigpt.cli.main import main
from minigpt.lab.plan import speed as plan_speed
from minigpt.system import matmul

CONFIGS = Path(__file__).parent.parent.parent / "configs"
TINY = ["--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2", "--model.block_size=16", "--data.tokenizer=byte",
        "--trainer.accelerator=cpu", "--trainer.max_steps=40"]  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16,)})
    monkeypatch.setattr(plan_speed, "_SECONDS", 0.02)


def plan(corpus: object, *words: str) -> int:
    return main(["plan", str(CONFIGS / "base.yaml"), *TINY, f"--data.corpus={corpus}", *words])


def test_a_plan_of_this_machine(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(corpus_file, "--price", "3.6", "--optim.warmup_steps=50") == 0
    out = capsys.readouterr().out
    for what in ("parameters", "data", "steps", "ratio", "loss", "FLOPs", "speed", "time", "cost", "disk", "memory"):
        assert f"\n{what} " in "\n" + out
    assert "single *  32-true" in out
    assert "warning: the warm-up of 50 steps is as long as the run of 40" in out


def test_a_plan_counts_what_is_prepared_and_estimates_what_is_not(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path))
    assert plan(corpus_file, "--json") == 0
    before = json.loads(capsys.readouterr().out)["workload"]["text"]
    assert not list(tmp_path.iterdir()), "a plan writes nothing"
    from minigpt.data.prepare import PrepareOptions, prepare_cached

    prepared = prepare_cached(PrepareOptions(corpus=str(corpus_file), tokenizer="byte"))
    assert plan(corpus_file, "--json") == 0
    after = json.loads(capsys.readouterr().out)["workload"]["text"]
    assert (before["is_exact"], after["is_exact"]) == (False, True)
    assert after["train_tokens"] == prepared.train.n_tokens
    assert before["train_tokens"] == pytest.approx(prepared.train.n_tokens, rel=0.02)


def test_a_device_of_the_data_sheets(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        str(CONFIGS / "gpt2.yaml"),
        "--device",
        "h200",
        "--devices",
        "8",
        "--price",
        "2",
        "--data.corpus=shakespeare",
    ]
    assert main(["plan", *words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    # 6 N + 12 L C T by hand, at 35 % of eight times 989.4 TFLOP/s
    seconds = made["flops_per_token"] * 100_000 * 524_288 / (0.35 * 8 * 989.4e12)
    assert seconds < made["duration"]["training"] < 1.01 * seconds
    assert made["cost"] == pytest.approx(16 * made["total_seconds"] / 3600)
    assert made["machine"]["bytes_per_device"] == 141e9


def test_a_plan_needs_no_lightning(corpus_file: Path) -> None:
    words = ["plan", str(CONFIGS / "base.yaml"), *TINY, f"--data.corpus={corpus_file}", "--device", "l4"]
    code = "import sys; from minigpt.cli.main import main\n"
    code += f"assert main({words!r}) == 0; assert 'lightning' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "h20"], "--device h20 is in no data sheet at hand, did you mean H200?"),
        (["--devices", "0"], "--devices 0 must be a whole number, 1 or more"),
        (["--utilisation", "1.5"], "--utilisation 1.5 must be more than 0 and at most 1"),
        (["--price", "-1"], "--price -1.0 must be a number, 0 or more"),
        (["--devics", "2"], "unknown key devics, did you mean devices?"),
        (["--model.n_heads", "2"], "unknown key model.n_heads, did you mean model.n_head?"),
        (["--trainer.max_steps", "many"], "trainer.max_steps=many must be a whole number"),
        (["--trainer.strategy", "fsdp"], "trainer.strategy=fsdp cannot be planned"),
        (
            ["--device", "v100", "--trainer.precision", "bf16-mixed"],
            "v100 has no such products by its data sheet: --tr",
        ),
        (["--trainer.precision", "16-true"], "trainer.precision=16-true keeps weights and gradients in float16"),
        (["--trainer.strategy", "ddp_spawn"], "trainer.strategy=ddp_spawn copies a program amid its work: use ddp"),
        (["--trainer.precision", "8"], "trainer.precision=8 must be one of 32-true, bf16-true"),
        (["--trainer.devices", "0"], "trainer.devices=0 must be auto, or a whole number, 1 or more"),
        (["--trainer.num_nodes", "x"], "trainer.num_nodes=x must be a whole number, 1 or more"),
        (["--law", "no.json"], "no.json: no such file; minigpt scaling SWEEP writes one"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(
    words: list[str], message: str, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(corpus_file, *words) in (1, 2)
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_a_model_beyond_any_machine_is_planned_all_the_same(
    corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(corpus_file, "--model.n_embd", str(2**20)) == 0
    assert "not even one window in bf16-true: --model.n_embd " in capsys.readouterr().out


def test_the_config_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", "configs/base.yaml"]) == 2
    assert "plan begins with the config: minigpt plan base" in capsys.readouterr().err
    assert main(["plan", "configs/bas.yaml"]) == 2
    assert "configs/bas.yaml: there is no such file, did you mean configs/base.yaml?" in capsys.readouterr().err


def test_what_is_no_config_is_said_without_an_option_that_nobody_gave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.yaml").write_text("{}", encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text("base: base.yaml\nseeds: [1]\ncells: [{}]\n", encoding="utf-8")
    (tmp_path / "runs" / "small").mkdir(parents=True)
    (tmp_path / "runs" / "small" / "config.yaml").write_text("{}", encoding="utf-8")
    nosuch, sweep, smal = tmp_path / "nosuch.yaml", tmp_path / "sweep.yaml", tmp_path / "runs" / "smal"
    for given, told in {
        nosuch: f"{nosuch}: there is no such file",
        smal: f"{smal}: there is no such run, and no such file, did you mean {tmp_path / 'runs' / 'small'}?",
        tmp_path / "runs" / "other": f"{tmp_path / 'runs' / 'other'}: there is no such run, and no such file",
        tmp_path / "runs": f"{tmp_path / 'runs'}: a folder without config.yaml, so no run's: plan takes a run's, or a "
        "YAML file",
        sweep: f"{sweep}: is a sweep file, the config of no single run: minigpt sweep {sweep} trains its runs, and its "
        "base='base.yaml' is a config",
    }.items():
        assert main(["plan", str(given)]) == 2
        assert capsys.readouterr().err == f"minigpt: error: {told}\n"


def test_a_terminal_gets_lines_that_it_need_not_break(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--device", "l4", "--optim.warmup_steps=50")
    assert plan(corpus_file, *words) == 0
    piped = capsys.readouterr().out.splitlines()
    assert max(map(len, piped)) > 120
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert plan(corpus_file, *words) == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    whole = {str(corpus_file)}  # what has no spaces is not broken
    assert [line for line in shown if len(line) > 80 and not any(word in line for word in whole)] == []
    steps = next(place for place, line in enumerate(shown) if line.startswith("ratio "))
    assert shown[steps + 1].startswith(" " * 11)
    assert sum(line.strip().startswith("strategy ") for line in shown) == 2
    folded = " ".join(" ".join(shown).split())
    facts = [line for line in piped if line.startswith(("parameters", "ratio", "loss", "time", "warning"))]
    assert all(" ".join(line.split()) in folded for line in facts)


def test_one_of_a_thing_is_said_so(
    corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setenv("MINIGPT_CACHE", str(corpus_file.parent / "nothing prepared"))
    assert plan(corpus_file, "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert ", 1 thread), " in out
    assert "estimated at 1 byte a token from " in out


def test_a_batch_that_neither_fits_nor_can_be_shared_out(corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "rtx4090", "--devices", "3", "--memory_gb", "4", "--data.tokenizer", "byte"]
    assert main(["plan", str(CONFIGS / "gpt2.yaml"), *words, f"--data.corpus={corpus_file}"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "does not fit" in line)
    assert int(line.split("--data.batch_size ")[1].split()[0]) % 3 == 0


def test_a_text_without_a_token_to_train_on_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.txt").write_text("ab", encoding="utf-8")
    (tmp_path / "config.yaml").write_text("trainer: {accelerator: cpu, devices: 1}\n", encoding="utf-8")
    assert main(["plan", str(tmp_path / "config.yaml"), f"--data.corpus={tmp_path / 'two.txt'}"]) == 1
    assert "two.txt: the text is too short" in capsys.readouterr().err


def test_a_prepared_text_shorter_than_a_window_is_refused_as_fit_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from minigpt.data.batches import Windows
    from minigpt.data.prepare import PrepareOptions, prepare
    from minigpt.errors import DataError

    (tmp_path / "short.txt").write_text("a few words of a short text", encoding="utf-8")
    prepared = prepare(PrepareOptions(corpus=str(tmp_path / "short.txt"), tokenizer="byte"), tmp_path / "out")
    assert plan(tmp_path / "out", "--device", "l4") == 1
    with pytest.raises(DataError) as caught:
        Windows(prepared.val.shards, 16, name=f"the validation part of data.corpus={tmp_path / 'out'}")
    assert str(caught.value) in capsys.readouterr().err


def test_a_plan_of_a_run_that_begins_from_weights_has_their_tokenizer(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt.data.prepare import PrepareOptions, prepare
    from minigpt.interop.foreign import ForeignModel, write_foreign
    from minigpt.model.config import GPTConfig
    from minigpt.model.gpt import GPT

    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))
    options = PrepareOptions(corpus=str(corpus_file), tokenizer="bpe", vocab_size=300)
    tokenizer = prepare(options, tmp_path / "out").tokenizer
    config = GPTConfig(vocab_size=320, block_size=16, n_layer=1, n_head=2, n_embd=16)
    foreign = ForeignModel(config=config, weights=GPT(config).state_dict(), tokenizer=tokenizer, origin={"source": "x"})
    write_foreign(foreign, tmp_path / "a.ckpt", "test")
    for corpus in (corpus_file, tmp_path / "out"):
        assert plan(corpus, "--device", "l4", "--json", f"--run.init_from={tmp_path / 'a.ckpt'}") == 0
        workload = json.loads(capsys.readouterr().out)["workload"]
        assert workload["config"]["vocab_size"] == 320
        assert workload["text"]["vocab_size"] == tokenizer.vocab_size
        assert workload["tokenizer"] == f"bpe of {tmp_path / 'a.ckpt'}"


def test_an_empty_config_of_a_run_is_not_the_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "base", [3.0])
    (folder / "config.yaml").write_text("", encoding="utf-8")
    assert main(["plan", str(folder)]) == 2
    assert "config.yaml is empty: the settings of this run are lost" in capsys.readouterr().err
