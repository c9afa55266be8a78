"""A trained model in Python and notebooks, without lightning: `minigpt.load(RUN_or_CHECKPOINT)`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import ConfigError
from minigpt.generate.batch import encode_prompts, generate_texts
from minigpt.generate.options import SamplingOptions, texts_at_once
from minigpt.generate.sampling import context_length
from minigpt.generate.text import check_stop, generate_text
from minigpt.interpret.probabilities import ScoredPiece, ScoredText, generate_scored, score_tokens
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.runs.checkpoint import Checkpoint, Prefer, build_model, find_checkpoint, read_checkpoint
from minigpt.runs.code import note_changed_files, run_code
from minigpt.system.devices import find_device

DEFAULTS = SamplingOptions()


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedGPT:
    """A model with what belongs to it."""

    model: GPT
    """In eval mode; model(tokens) takes int64 (B, T) and gives logits (B, T, V)."""
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    """Where the weights come from: path, step, val_loss, data, provenance."""

    def __repr__(self) -> str:
        """Two lines: where it comes from, and what it is."""
        config, device = self.config, next(self.model.parameters()).device
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        size = f"{n_parameters:,} parameters, {config.n_layer} layers, {config.n_head} heads, width"
        tokens = f"{self.tokenizer.kind} tokenizer of {self.tokenizer.vocab_size:,} tokens"
        return f"{self.checkpoint}\n{size} {config.n_embd}, block_size {config.block_size}; {tokens}; on {device}"

    @property
    def config(self) -> GPTConfig:
        """The model's settings."""
        return self.model.config

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; DataError for characters that the tokenizer does not know."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(ids)

    def score(self, text: str, n_alternatives: int = 5) -> ScoredText:
        """How likely the model finds each token of `text`, and the tokens that it finds likeliest in its place.

        A notebook shows it coloured; printed, each token has its probability in percent behind it. Raises ConfigError
        for more than block_size tokens, DataError for characters that the tokenizer does not know.
        """
        return score_tokens(self.model, self.tokenizer, self.encode(text), n_alternatives)

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        *,
        max_new_tokens: int = DEFAULTS.max_new_tokens,
        temperature: float = DEFAULTS.temperature,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        greedy: bool = False,
        seed: int | None = None,
        use_cache: bool = True,
        context: int | None = None,
        stop: str | None = None,
        n_samples: int | None = None,
        batch_size: int | None = None,
    ) -> str | list[str]:
        """`prompt` and its continuation; with `n_samples` a list of so many; of several prompts the list of all texts.

        The settings are those of SamplingOptions. The text ends before `stop`, which is looked for in the continuation.
        Sample i of any prompt draws from `seed + i`, whatever the other texts are. `batch_size` texts are computed at
        once (none: see `texts_at_once`): faster, and the same texts but where rounding tips a choice over.
        Raises ConfigError for settings that cannot work, DataError for a prompt that the tokenizer cannot encode.
        """
        options = SamplingOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            greedy=greedy,
            seed=seed,
            use_cache=use_cache,
            context=context,
        )
        samples = options.for_samples(1 if n_samples is None else n_samples)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        at_once = texts_at_once(batch_size, len(prompts))
        texts = ["".join(pieces) for pieces in self.texts(prompts, samples, stop, at_once)]
        return texts[0] if n_samples is None and isinstance(prompt, str) else texts

    def stream(
        self,
        prompt: str = "",
        *,
        max_new_tokens: int = DEFAULTS.max_new_tokens,
        temperature: float = DEFAULTS.temperature,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        greedy: bool = False,
        seed: int | None = None,
        use_cache: bool = True,
        context: int | None = None,
        stop: str | None = None,
    ) -> Iterator[str]:
        """The text of `generate`, of the same settings, in pieces as they come, the prompt first.

        Errors are raised at once.
        """
        options = SamplingOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            greedy=greedy,
            seed=seed,
            use_cache=use_cache,
            context=context,
        )
        return self._stream(prompt, options, stop)

    def _stream(self, prompt: str, options: SamplingOptions, stop: str | None) -> Iterator[str]:
        continuation = generate_text(self.model, self.tokenizer, prompt, options, stop)
        return chain([prompt] if prompt else [], continuation)

    def scored(
        self, prompts: Sequence[str], samples: Sequence[SamplingOptions], stop: str | None
    ) -> Iterator[Iterator[ScoredPiece]]:
        """As `texts`, one at a time: the pieces of each continuation with their probabilities. Errors come at once."""
        self._check(prompts, samples, stop)
        jobs = ((prompt, sample) for prompt in prompts for sample in samples)
        return (generate_scored(self.model, self.tokenizer, prompt, sample, stop) for prompt, sample in jobs)

    def texts(
        self, prompts: Sequence[str], samples: Sequence[SamplingOptions], stop: str | None, batch_size: int
    ) -> Iterator[Iterable[str]]:
        """For each prompt, and each of its samples, the pieces of a text, `batch_size` of them computed at once.

        The samples differ by their seed alone. A single text comes in pieces as its tokens do, those of a batch come
        whole. Errors are raised at once.
        """
        self._check(prompts, samples, stop)
        return self._texts([(prompt, sample) for prompt in prompts for sample in samples], stop, batch_size)

    def _check(self, prompts: Sequence[str], samples: Sequence[SamplingOptions], stop: str | None) -> None:
        if not prompts:
            raise ConfigError("prompt=[] holds no prompt: give one or more")
        check_stop(stop)
        context_length(self.model, samples[0])
        encode_prompts(self.tokenizer, prompts)

    def _texts(
        self, jobs: list[tuple[str, SamplingOptions]], stop: str | None, batch_size: int
    ) -> Iterator[Iterable[str]]:
        for first in range(0, len(jobs), batch_size):
            batch = jobs[first : first + batch_size]
            prompts = [prompt for prompt, _ in batch]
            options = [sample for _, sample in batch]
            if len(batch) == 1:
                yield self._stream(prompts[0], options[0], stop)
                continue
            seeds = [sample.first_seed() for sample in options]
            texts = generate_texts(self.model, self.tokenizer, prompts, options[0], seeds=seeds, stop=stop)
            yield from ([prompt + text] for prompt, text in zip(prompts, texts, strict=True))


def load(
    run_or_checkpoint: str | Path, device: str = "cpu", prefer: Prefer = "best", *, trust_code: bool = False
) -> LoadedGPT:
    """The model of a run's folder (its best checkpoint, or with `prefer="last"` the newest) or of a checkpoint file.

    `device`: cpu, cuda, cuda:N, mps, or auto for the fastest there is. A component of the user's own is imported from
    the working folder or the environment; with `trust_code` from the copy that the run keeps, which is then executed.
    Raises CheckpointError for what is missing, broken or not ours, ConfigError for a device that this machine lacks.
    """
    torch_device = find_device(device)
    path = find_checkpoint(run_or_checkpoint, prefer)
    with run_code(path, trust=trust_code):
        checkpoint = read_checkpoint(path)
        model = build_model(checkpoint, torch_device)
        note_changed_files(path, checkpoint.config.to_dict().values(), checkpoint.provenance.get("files"))
    return LoadedGPT(model=model, tokenizer=checkpoint.tokenizer, checkpoint=checkpoint)
