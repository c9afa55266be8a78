"""`minigpt generate`: what it writes where, when, and how it ends."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import TEXT, random_gpt, reciting, reciting_gpt, tiny_config, tiny_tokenizer, write_checkpoint

from minigpt.api import load
from minigpt.cli.main import main
from minigpt.data.tokenizers import CharTokenizer


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """runs/base with a random byte model, the current folder being above it."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint(Path("runs/base/checkpoints/best.ckpt"), tiny_config(), tiny_tokenizer("byte"))
    return Path("runs/base")


@pytest.fixture
def alphabet(tmp_path) -> str:
    """A model that recites abcdefgh round and round."""
    tokenizer = CharTokenizer("abcdefgh\n", end_of_text=False, unknown=False)
    write_checkpoint(tmp_path / "alphabet.ckpt", reciting("abcdefgh", tokenizer), tokenizer)
    return str(tmp_path / "alphabet.ckpt")


def refusal(capsys, *words: object) -> tuple[int, str]:
    """(exit code, the one line on stderr) of a command that fails, having written nothing to stdout."""
    code = main([str(word) for word in ("generate", *words)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("minigpt: error: ")
    return code, captured.err


def pipe(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_stdout_holds_the_text_and_nothing_else(run, capsys):
    assert main(["generate", str(run), "--prompt", "The", "--max_new_tokens", "20", "--seed", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.out == load(run).generate("The", max_new_tokens=20, seed=1) + "\n"
    assert captured.err == ""


def test_options_reach_the_sampling(run, capsys):
    options = "--top_k 30 --top_p 0.95 --min_p 0.01 --temperature 1.5 --context 9 --no_cache --prefer last --device cpu"
    assert main(["generate", "base", "--prompt", "The", "--max_new_tokens", "20", "--seed", "1", *options.split()]) == 0
    settings = {"top_k": 30, "top_p": 0.95, "min_p": 0.01, "temperature": 1.5, "context": 9}
    assert capsys.readouterr().out == load(run).generate("The", max_new_tokens=20, seed=1, **settings) + "\n"


def test_several_samples_are_separated_by_a_line(run, capsys):
    assert (
        main(["generate", str(run), "--prompt", "The", "--max_new_tokens", "9", "--seed", "1", "--n_samples", "3"]) == 0
    )
    texts = load(run).generate("The", max_new_tokens=9, seed=1, n_samples=3)
    assert capsys.readouterr().out == "\n---\n".join(texts) + "\n"


def test_several_prompts_are_texts_with_a_line_between_them(alphabet, tmp_path, capsys, monkeypatch):
    command = ["generate", alphabet, "--greedy", "--max_new_tokens", "3"]
    assert main([*command, "--prompt", "ab", "--prompt", "defg"]) == 0
    assert capsys.readouterr().out == "abcde\n---\ndefghab\n"
    (tmp_path / "prompts.txt").write_bytes("\ufeffab\r\n\ndefg\nh".encode())
    pipe(monkeypatch, b"not this")
    assert main([*command, "--prompts", str(tmp_path / "prompts.txt")]) == 0
    assert capsys.readouterr() == ("abcde\n---\ndefghab\n---\nhabc\n", "")
    assert main([*command, "--prompts", str(tmp_path / "prompts.txt"), "--batch_size", "1", "--stop", "f"]) == 0
    assert capsys.readouterr().out == "abcde\n---\ndefghab\n---\nhabc\n"


def test_files_of_prompts_that_cannot_be_used_end_in_one_line_and_code_1(alphabet, tmp_path, capsys):
    path = tmp_path / "prompts.txt"
    for content, words in (
        (b"\n\n", "no prompt"),
        (b"", "no prompt"),
        (b"a\xff", "0xff at offset 1"),
        (b"a\nbx", "prompt 2"),
    ):
        path.write_bytes(content)
        code, message = refusal(capsys, alphabet, "--prompts", path)
        assert code == 1
        assert words in message
    code, message = refusal(capsys, alphabet, "--prompts", tmp_path / "none.txt")
    assert code == 1
    assert "none.txt" in message


def test_a_fresh_seed_is_noted_and_gives_the_same_text_again(run, capsys):
    command = ["generate", str(run), "--prompt", "The", "--max_new_tokens", "20"]
    assert main(command) == 0
    first = capsys.readouterr()
    assert first.err.startswith("minigpt: note: --seed ")
    assert main([*command, "--seed", first.err.split()[3]]) == 0
    assert capsys.readouterr() == (first.out, "")


def test_each_piece_is_flushed_before_the_next_is_computed(alphabet, monkeypatch):
    events: list[str] = []

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            events.append(text)
            return len(text)

        def flush(self) -> None:
            events.append("flush")

    forward = torch.nn.Embedding.forward
    monkeypatch.setattr(torch.nn.Embedding, "forward", lambda *args: events.append("model") or forward(*args))
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["generate", alphabet, "--prompt", "ab", "--greedy", "--max_new_tokens", "3"]) == 0
    expected = ["ab", "flush", "model", "c", "flush", "model", "d", "flush", "model", "e", "flush", "\n", "flush"]
    assert events[: len(expected)] == expected


def test_the_text_ends_before_the_stop_text(alphabet, capsys):
    for stop, expected in (("fg", "abcde\n"), ("c", "ab\n"), ("x", "abcdefghabcd\n")):
        assert main(["generate", alphabet, "--prompt", "ab", "--greedy", "--max_new_tokens", "10", "--stop", stop]) == 0
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize(("piped", "prompt"), [(b"ab", "ab"), (b"ab\n", "ab"), (b"ab\n\n", "ab\n"), (b"", "")])
def test_a_piped_prompt_loses_one_final_newline(run, capsys, monkeypatch, piped, prompt):
    pipe(monkeypatch, piped)
    assert main(["generate", str(run), "--max_new_tokens", "5", "--seed", "0"]) == 0
    assert capsys.readouterr().out == load(run).generate(prompt, max_new_tokens=5, seed=0) + "\n"


def test_a_given_prompt_leaves_stdin_alone(run, capsys, monkeypatch):
    pipe(monkeypatch, b"not this")
    assert main(["generate", str(run), "--prompt", "", "--max_new_tokens", "5", "--seed", "0"]) == 0
    assert capsys.readouterr().out == load(run).generate("", max_new_tokens=5, seed=0) + "\n"


def test_a_prompt_longer_than_the_context_is_noted(run, capsys):
    assert main(["generate", str(run), "--prompt", "a" * 18, "--max_new_tokens", "1", "--seed", "0"]) == 0
    note = "minigpt: note: the prompt has 18 tokens, the context 16: only the last 14 count\n"
    assert capsys.readouterr().err == note
    words = ["--prompt", "a", "--prompt", "a" * 18, "--max_new_tokens", "1", "--seed", "0"]
    assert main(["generate", str(run), *words]) == 0
    assert capsys.readouterr().err == note.replace("the prompt", "prompt 2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--temperature 0", "temperature=0.0 --greedy"),
        ("--temperature hot", "--temperature hot"),
        ("--top_k 0", "top_k=0"),
        ("--top_p 1.5", "top_p=1.5"),
        ("--min_p -1", "min_p=-1.0"),
        ("--max_new_tokens -1", "max_new_tokens=-1"),
        ("--n_samples 0", "n_samples=0"),
        ("--greedy --temperature 0.5", "greedy temperature=0.5"),
        ("--greedy --n_samples 2", "greedy n_samples=2"),
        ("--batch_size 0", "batch_size=0"),
        ("--prompts file", "--prompt --prompts"),
        ("--context 17", "context=17 block_size=16"),
        ("--top-k 3", "--top-k --top_k"),
        ("--device gpu", "device='gpu'"),
    ],
)
def test_impossible_settings_end_in_one_line_and_code_2(run, capsys, options, words):
    code, message = refusal(capsys, run, "--prompt", "The", *options.split())
    assert code == 2
    assert all(word in message for word in words.split()), message


def test_an_empty_stop_text_is_refused(run, capsys):
    code, message = refusal(capsys, run, "--prompt", "The", "--stop", "")
    assert code == 2
    assert "stop=''" in message


def test_checkpoints_and_prompts_that_cannot_be_used_end_in_one_line_and_code_1(run, tmp_path, capsys, monkeypatch):
    code, message = refusal(capsys, "bsae", "--prompt", "The")
    assert code == 1
    assert "did you mean base?" in message

    Path("text.ckpt").write_text("text")
    assert refusal(capsys, "text.ckpt", "--prompt", "The")[0] == 1

    tokenizer = tiny_tokenizer("char")
    write_checkpoint(Path("char.ckpt"), tiny_config(tokenizer.vocab_size), tokenizer)
    code, message = refusal(capsys, "char.ckpt", "--prompt", "The Ω")
    assert code == 1
    assert "'Ω'" in message

    code, message = refusal(capsys, run, "--prompt", "broken \udcff byte")
    assert code == 1
    assert "character 7" in message

    pipe(monkeypatch, b"ab\xffcd")
    code, message = refusal(capsys, run)
    assert code == 1
    assert "0xff at offset 2" in message


def test_a_model_that_diverged_ends_in_one_line(tmp_path, capsys):
    model = random_gpt(tiny_config())
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    write_checkpoint(tmp_path / "nan.ckpt", model, tiny_tokenizer("byte"))
    assert main(["generate", str(tmp_path / "nan.ckpt"), "--prompt", "The", "--seed", "0"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "The\n"
    assert "diverged" in captured.err


def test_a_stream_that_cannot_hold_a_character_gets_its_escape(tmp_path, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    model = reciting_gpt({ord("a"): 0xC3, 0xC3: 0xA9, 0xA9: ord("a")}, 257)
    write_checkpoint(tmp_path / "e.ckpt", model, tiny_tokenizer("byte"))
    assert main(["generate", str(tmp_path / "e.ckpt"), "--prompt", "a", "--greedy", "--max_new_tokens", "3"]) == 0
    assert raw.getvalue() == b"a\\xe9a\n"


def test_help_needs_no_torch():
    code = (
        "import sys; from minigpt.cli.main import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--top_p" in done.stdout
    assert "(default: 0.8)" in done.stdout


# ----- how it ends: as a process of its own


@pytest.fixture
def endless(tmp_path):
    """`minigpt generate` that never ends by itself, after its first bytes."""
    tokenizer = tiny_tokenizer("byte")
    write_checkpoint(tmp_path / "a.ckpt", reciting(TEXT[:4], tokenizer), tokenizer)
    command = [sys.executable, "-m", "minigpt.cli.main", "generate", str(tmp_path / "a.ckpt")]
    process = subprocess.Popen(
        [*command, "--prompt", "T", "--greedy", "--max_new_tokens", str(10**15)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(20) == b"The The The The The "
    yield process
    process.kill()
    process.wait()


def test_a_reader_that_leaves_ends_it_quietly(endless):
    endless.stdout.close()
    assert endless.wait(timeout=60) in {0, 128 + signal.SIGPIPE}
    assert endless.stderr.read() == b""


def test_ctrl_c_ends_it_with_a_whole_line_and_130(endless):
    endless.send_signal(signal.SIGINT)
    out, err = endless.communicate(timeout=60)
    assert endless.returncode == 130
    assert out.endswith(b"\n")
    assert b"Traceback" not in err
    assert err.count(b"\n") == 1


def test_probabilities_stand_behind_the_tokens_in_a_pipe(alphabet, capsys):
    words = ["generate", alphabet, "--prompt", "a", "--max_new_tokens", "3", "--greedy", "--show_probabilities"]
    assert main(words) == 0
    assert re.fullmatch(r"ab\{\d+\}c\{\d+\}d\{\d+\}\n", capsys.readouterr().out)
    assert main([*words, "--stop", "d"]) == 0
    assert re.fullmatch(r"ab\{\d+\}c\{\d+\}\n", capsys.readouterr().out)


def test_probabilities_are_colours_in_a_terminal(alphabet, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    words = ["generate", alphabet, "--prompt", "a", "--max_new_tokens", "2", "--greedy", "--show_probabilities"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out == "a\x1b[32mb\x1b[0m\x1b[32mc\x1b[0m\n"
    assert "from 50 %" in captured.err
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
        assert main(words) == 0
        assert "\x1b" not in capsys.readouterr().out
        monkeypatch.setenv("TERM", "xterm")


def test_several_texts_with_probabilities(run, capsys):
    words = ["--prompt", "The", "--prompt", "A", "--max_new_tokens", "4", "--seed", "1", "--n_samples", "2"]
    assert main(["generate", str(run), *words, "--show_probabilities"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n---\n") == 3
    assert main(["generate", str(run), *words, "--batch_size", "1"]) == 0
    assert re.sub(r"\{[\d.<]+\}", "", shown) == capsys.readouterr().out


def test_probabilities_of_a_batch_are_refused(run, capsys):
    code, line = refusal(capsys, run, "--prompt", "a", "--show_probabilities", "--batch_size", 2)
    assert code == 2
    assert "--batch_size" in line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("option", [[], ["--show_probabilities"]])
def test_a_terminal_is_shown_symbols_and_a_pipe_gets_the_characters(tmp_path, monkeypatch, option) -> None:
    """A model that writes ESC and CR could do anything to a terminal; a file is to hold what it wrote."""
    model = reciting_gpt({ord("a"): 0x1B, 0x1B: 0x0D, 0x0D: 0x0A, 0x0A: ord("a")}, 257)
    write_checkpoint(tmp_path / "e.ckpt", model, tiny_tokenizer("byte"))
    words = ["generate", str(tmp_path / "e.ckpt"), "--prompt", "\x07a", "--greedy", "--max_new_tokens", "3", *option]
    monkeypatch.setenv("NO_COLOR", "")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(words) == 0
        text = re.sub(r"\x1b\[\d+m|\{100\}", "", stream.getvalue())
        assert text == ("␇a␛␍\n\n" if stream.isatty() else "\x07a\x1b\r\n\n")
