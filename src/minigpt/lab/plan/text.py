"""A plan as text: labelled facts, and a table of memory."""

from collections.abc import Sequence

from minigpt.data.named_corpora import corpus_name
from minigpt.lab.plan.memory import largest_batch
from minigpt.lab.plan.plan import Plan
from minigpt.system.tables import Table
from minigpt.system.units import bytes_text, count_text, flops_text, rate_text, seconds_text

MEMORY_COLUMNS = ("weights", "gradients", "optimizer", "activations", "logits", "copies", "other", "total")


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """Label and text of each fact; memory by strategy and precision is in `memory_table`."""
    workload, text, times = plan.workload, plan.workload.text, plan.duration
    parts = ", ".join(f"{name} {count:,}" for name, count in plan.parameters.items() if count)
    corpus = corpus_name(workload.corpus)
    exact = "" if text.is_exact else "about "
    return [
        ("parameters", f"{workload.n_parameters:,}: {parts}"),
        ("data", f"{corpus} ({workload.tokenizer}): {exact}{text.train_tokens:,} tokens to train on, "
                 f"{exact}{text.val_tokens:,} held out: {text.held_out}; {text.source}"),
        *([("files", text.files)] if text.files else []),
        ("steps", f"{workload.max_steps:,} of {workload.tokens_per_step:,} tokens ({workload.accumulate} x "
                  f"{workload.batch_size} x {workload.config.block_size}) = {count_text(workload.tokens)} tokens = "
                  f"{_epochs(workload.epochs)} epochs"),
        ("ratio", _ratio(plan)),
        ("loss", plan.forecast.text),
        ("FLOPs", f"{flops_text(workload.flops)} to train ({flops_text(plan.flops_per_token)} a token), "
                  f"{flops_text(workload.evaluation_flops)} to validate"),
        ("machine", f"{plan.machine.devices} x {plan.machine.name}, {bytes_text(plan.machine.bytes_per_device)} each"),
        ("speed", f"{rate_text(plan.tokens_per_second)}, {plan.utilisation:.1%} MFU; {plan.speed.source}"),
        ("time", f"{seconds_text(times.total)}: training {seconds_text(times.training)}, validation "
                 f"{seconds_text(times.evaluation)}, samples {seconds_text(times.sampling)}, checkpoints "
                 f"{seconds_text(times.saving)}, start {seconds_text(times.startup)}"),
        *_cost(plan),
        ("disk", f"{bytes_text(plan.disk_bytes)} for {_kept(plan)} of {bytes_text(plan.checkpoint_bytes)} each"),
        ("memory", f"{bytes_text(plan.memory.total)} on each device; a batch of up to {_largest(plan)} windows fits"),
    ]  # fmt: skip


def memory_table(plan: Plan) -> Table:
    """Memory of a step by part, a row for each strategy and precision."""
    rows: list[Sequence[str]] = []
    for row in plan.memory_rows:
        strategy = row.strategy + (f" x {row.devices}" if row.devices > 1 else "") + (" *" if row.is_chosen else "")
        cells = (bytes_text(getattr(row.memory, name)) for name in MEMORY_COLUMNS)
        rows.append((strategy, row.precision, *cells, "yes" if row.fits else "no"))
    columns = ("strategy", "precision", *MEMORY_COLUMNS, "fits")
    return Table(columns=columns, rows=rows, numbers=frozenset(MEMORY_COLUMNS), keys=2, reads_down=True)


def _epochs(epochs: float) -> str:
    return f"{epochs:,.0f}" if epochs >= 100 else f"{epochs:.3g}"


def _ratio(plan: Plan) -> str:
    parameters, tokens = plan.optimum
    return (
        f"{plan.tokens_per_parameter:.3g} tokens a parameter; for these FLOPs the best is about "
        f"{count_text(parameters)} parameters and {count_text(tokens)} tokens (20 a parameter: Hoffmann et al. 2022)"
    )


def _largest(plan: Plan) -> str:
    limit = plan.machine.bytes_per_device
    batch = None if limit == float("inf") else largest_batch(plan.workload, plan.machine.kind, limit)
    return "?" if limit == float("inf") else f"{batch or 0:,}"


def _cost(plan: Plan) -> list[tuple[str, str]]:
    if plan.cost is None:
        return []
    return [("cost", f"{plan.cost:,.2f} at {plan.price_per_hour:g} an hour and device")]


def _kept(plan: Plan) -> str:
    count = round(plan.disk_bytes / plan.checkpoint_bytes)
    return f"{count} checkpoint{'s' if count > 1 else ''}"
