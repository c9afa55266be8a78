"""The reports of `minigpt bench`, of a race, of decoding and of a profile: a table with notes and a verdict."""

import datetime
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from minigpt.lab.bench.costs import LARGEST, Profile
from minigpt.lab.bench.decoding import CACHED, UNCACHED, Decoded
from minigpt.lab.bench.measure import Spread, ratio, spread
from minigpt.lab.bench.setting import Setting
from minigpt.lab.bench.training import BARE, TRAINER, Race, Result
from minigpt.model.sizes import parameter_count
from minigpt.runs.provenance import describe
from minigpt.system.devices import device_name
from minigpt.system.precision import product_format
from minigpt.system.tables import Table
from minigpt.system.units import bytes_text, count_text, seconds_text, speed_text
from minigpt.system.utilisation import Peak, sheet_peak, utilisation


@dataclass(frozen=True, kw_only=True)
class Report:
    """A table with notes and a verdict."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]
    """Lines before the table that say how it was measured."""
    verdict: str
    """The conclusion, as the last line."""
    prose: frozenset[str] = frozenset()
    """The columns of text."""

    def table(self) -> Table:
        """The table for the terminal."""
        numbers = frozenset(self.columns[1:]) - self.prose
        return Table(
            title="", columns=self.columns, rows=list(self.rows), numbers=numbers, prose=self.prose, reads_down=True
        )

    def markdown(self, command: Sequence[str]) -> str:
        """The report as Markdown: command and machine, notes, table, verdict."""
        return "\n\n".join([machine(command), *self.notes, self._markdown_table(), self.verdict]) + "\n"

    def _markdown_table(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(command: Sequence[str]) -> str:
    """Two paragraphs: the command, and the date, machine and versions."""
    facts = describe(command)
    where, versions = facts["machine"], facts["versions"]
    gpus = ", ".join(where["gpus"]) or "no GPU"
    installed = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "lightning"))
    day = datetime.datetime.now(datetime.UTC).date()
    threads = torch.get_num_threads()
    place = f"{where['processor']}, {where['cores']} cores, {threads} threads, {gpus}"
    return f"`{shlex.join(command)}`\n\n{day}: {place}; {installed}"


def spread_text(values: Spread, text: Callable[[float], str]) -> str:
    """Median and range: `41.3 ms (40.2 ms to 44.8 ms)`."""
    return f"{text(values.median)} ({text(values.low)} to {text(values.high)})"


def ratio_text(value: float) -> str:
    """`0.634`"""
    return f"{value:.3f}"


def share_text(value: float) -> str:
    """`37.2%`"""
    return f"{value:.1%}"


def peaks(setting: Setting, measured: float) -> list[Peak]:
    """The peaks that utilisation refers to: that of the data sheet, if there is one, and the measured one (FLOP/s)."""
    listed = sheet_peak(device_name(setting.device), product_format(setting.precision, setting.device))
    return [*([Peak(listed, "data sheet")] if listed else []), Peak(measured, "measured")]


def race_report(setting: Setting, race: Race, steps: int) -> Report:
    """Report times, rates, memory and utilisation of each contender, and the ratios of their times."""
    results, found = race.results, peaks(setting, race.peak)
    times = {result.name: result.seconds for result in results}
    rows = []
    for result in results:
        seconds = spread(result.seconds)
        rate = seconds.map(lambda value: setting.tokens_per_step / value)
        shares = [_share(result, rate, peak) for peak in found]
        rows.append(
            (
                result.name,
                spread_text(seconds, seconds_text),
                spread_text(rate, count_text),
                "–" if result.n_bytes is None else bytes_text(result.n_bytes),
                *shares,
                spread_text(ratio(result.seconds, times[BARE]), ratio_text),
            )
        )
    overhead = spread_text(ratio(times[TRAINER], times[BARE]), ratio_text)
    sentences = [f"the Trainer's step takes {overhead} of the bare loop's time"]
    for other in results:
        if other.name not in {TRAINER, BARE}:
            gain = spread_text(ratio(times[BARE], other.seconds), ratio_text)
            sentences.insert(0, f"a step of minigpt takes {gain} of the time of {other.name}")
    rounds = len(times[BARE])
    return Report(
        columns=(
            "",
            "time per step",
            "tokens/s",
            "memory of a step",
            *(f"MFU, {peak.source}" for peak in found),
            "time / bare loop's",
        ),
        rows=rows,
        notes=[
            *_setting_notes(setting, found),
            f"{rounds} rounds of {steps} steps each in turn: median (lowest to highest); a ratio is within one round.",
        ],
        verdict="; ".join(sentences),
    )


def decode_report(setting: Setting, decoded: Sequence[Decoded]) -> Report:
    """Report rates of prefill and decode by batch and prompt, and the gain from the cache."""
    rows, gains = [], []
    for each in decoded:
        gain = ratio(each.decode[CACHED], each.decode[UNCACHED])
        gains.append(gain.median)
        rows.append(
            (
                f"{each.shape.batch_size:,}",
                f"{each.shape.prompt:,} tokens",
                f"{each.shape.new:,} tokens",
                *(spread_text(spread(each.prefill[name]), count_text) for name in (CACHED, UNCACHED)),
                *(spread_text(spread(each.decode[name]), count_text) for name in (CACHED, UNCACHED)),
                spread_text(gain, ratio_text),
            )
        )
    return Report(
        columns=(
            "batch",
            "prompt",
            "new",
            "prefill, cached",
            "prefill, uncached",
            "decode, cached",
            "decode, uncached",
            "ratio",
        ),
        rows=rows,
        notes=[
            *_setting_notes(setting, []),
            f"{len(decoded[0].decode[CACHED])} rounds in turn, greedy, float32: tokens/s, median (lowest to highest). "
            "The first new token belongs to the prefill.",
        ],
        verdict=f"decoding with the cache is {min(gains):.2f} to {max(gains):.2f} times as fast as without (medians)",
    )


def profile_report(setting: Setting, profiled: Profile) -> Report:
    """Report the largest costs of a step and their share of it."""
    largest = profiled.costs[:LARGEST]
    share = sum(cost.seconds for cost in largest) / profiled.seconds
    return Report(
        columns=("cost", "what it is", "calls per step", "time per step", "share"),
        rows=[
            (
                cost.name,
                cost.meaning,
                f"{cost.calls:,.3g}",
                seconds_text(cost.seconds),
                share_text(cost.seconds / profiled.seconds),
            )
            for cost in largest
        ],
        notes=[
            *_setting_notes(setting, []),
            f"A step of the bare loop takes {seconds_text(profiled.plain_seconds)}, and under torch's profiler "
            f"{seconds_text(profiled.seconds)}, of which the shares are.",
        ],
        verdict=f"these {len(largest)} take {share_text(share)} of the step",
        prose=frozenset({"what it is"}),
    )


def _share(result: Result, rate: Spread, peak: Peak) -> str:
    share = rate.map(lambda value: utilisation(result.flops_per_token, value, peak.flops))
    return spread_text(share, share_text)


def _setting_notes(setting: Setting, found: Sequence[Peak]) -> list[str]:
    """Notes on the model, the device and its peaks, and deviations from the config."""
    config, experiment = setting.config, setting.experiment
    product = product_format(setting.precision, setting.device)
    device = f"{device_name(setting.device)} ({setting.device.type})"
    compiled = ", compiled" if experiment.run.compile else ""
    lines = [
        f"{parameter_count(config):,} parameters, vocabulary {config.vocab_size:,}, "
        f"{setting.tokens_per_step:,} tokens a step ({setting.accumulate} x {experiment.data.batch_size} x "
        f"{config.block_size}), {experiment.optim.name}, {setting.precision}{compiled}, on {device}.",
        *(f"Peak of {product} matrix products, {peak.source}: {speed_text(peak.flops)}." for peak in found),
    ]
    return [*lines, *([f"Note: {setting.note}"] if setting.note else [])]
