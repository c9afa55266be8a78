"""The names of all settings, and a check that finds a misspelt one before anything heavy is imported."""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from minigpt.cli.yaml_files import load_yaml
from minigpt.errors import ConfigError, did_you_mean, shown
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig
from minigpt.system.shipped_configs import find_config
from minigpt.training.config import TRAINER_OWNED, DataConfig, RunConfig

GROUPS: dict[str, type] = {"run": RunConfig, "model": GPTConfig, "optim": OptimConfig, "data": DataConfig}

COMMAND_LINE = ("config", "ckpt_path", "help", "print_config")
ELSEWHERE = {
    "model.vocab_size": "it is the tokenizer's: data.tokenizer, data.vocab_size and data.vocab_multiple set it",
    **{f"trainer.{name}": hint for name, hint in TRAINER_OWNED.items()},
}
"""Keys that a reader may expect and a config does not have, each with what to use instead."""

_OTHER_NAMES = {
    other: ours
    for ours, others in {
        "seed_everything": "seed",
        "run.name": "run_name experiment_name wandb_run_name",
        "run.root": "out_dir output_dir dump_folder save_dir default_root_dir",
        "run.log_every": "log_interval logging_steps log_freq log_every_n_steps",
        "run.eval_every": "eval_interval eval_steps eval_freq val_check_interval",
        "run.eval_batches": "eval_iters max_eval_iters eval_batch_count limit_val_batches",
        "run.save_every": "save_interval save_steps save_every_n_steps checkpoint_interval",
        "run.keep": "save_total_limit keep_latest_k save_top_k",
        "run.compile": "torch_compile use_compile",
        "run.init_from": "initial_checkpoint_dir checkpoint_dir pretrained model_name_or_path initial_load_path",
        "model.block_size": "max_seq_len max_seq_length seq_len sequence_length context_length n_positions n_ctx "
        "max_position_embeddings",
        "model.n_layer": "num_layers n_layers num_hidden_layers depth",
        "model.n_head": "num_heads n_heads num_attention_heads",
        "model.n_kv_head": "n_kv_heads num_key_value_heads n_query_groups num_kv_heads",
        "model.n_embd": "d_model hidden_size dim embed_dim embedding_dim width",
        "model.n_ff": "d_ff intermediate_size ffn_dim n_inner hidden_dim mlp_ratio ffn_dim_multiplier",
        "model.dropout": "dropout_prob resid_pdrop embd_pdrop attn_pdrop attention_dropout hidden_dropout_prob",
        "model.position": "position_embedding position_encoding pos_emb rope",
        "model.norm": "norm_class_name norm_type",
        "model.norm_eps": "rms_norm_eps layer_norm_eps layer_norm_epsilon",
        "model.activation": "hidden_act activation_function mlp_class_name",
        "model.attention": "attn_implementation flash_attention use_flash_attn",
        "model.sliding_window": "sliding_window_size window_size",
        "model.qk_norm": "use_qk_norm norm_qk",
        "model.bias": "attention_bias mlp_bias use_bias",
        "model.tie_embeddings": "tie_word_embeddings weight_tying enable_weight_tying",
        "model.logit_softcap": "final_logit_softcapping logit_softcapping",
        "model.rotary_base": "rope_base rope_theta rotary_theta",
        "optim.name": "optimizer optim_type",
        "optim.lr": "learning_rate max_lr peak_lr",
        "optim.schedule": "lr_scheduler lr_scheduler_type decay_type decay_lr scheduler",
        "optim.min_lr": "min_lr_factor min_learning_rate final_lr",
        "optim.warmup_steps": "warmup_iters lr_warmup_steps warmup_ratio num_warmup_steps",
        "optim.decay_fraction": "decay_ratio lr_decay_iters cooldown_fraction",
        "optim.betas": "beta1 beta2 adam_beta1 adam_beta2",
        "optim.eps": "adam_epsilon adam_eps",
        "optim.weight_decay": "wd l2",
        "data.corpus": "dataset dataset_path data_path train_file data_dir train_data_path",
        "data.tokenizer": "tokenizer_path tokenizer_name hf_assets_path",
        "data.vocab_multiple": "padded_vocab_size padding_multiple",
        "data.batch_size": "micro_batch_size global_batch_size local_batch_size per_device_train_batch_size "
        "train_batch_size",
        "data.val_fraction": "val_split val_split_fraction test_size validation_split_percentage",
        "data.text_field": "text_column text_column_name text_key",
        "data.num_workers": "dataloader_num_workers workers num_proc",
        "trainer.max_steps": "max_iters epochs num_epochs num_train_epochs num_iterations steps max_tokens n_steps",
        "trainer.accelerator": "device backend",
        "trainer.devices": "n_gpus num_gpus gpus nproc_per_node",
        "trainer.precision": "dtype bf16 fp16 mixed_precision",
        "trainer.gradient_clip_val": "grad_clip max_norm max_grad_norm clip_grad_norm",
        "trainer.accumulate_grad_batches": "gradient_accumulation_steps gradient_accumulation_iters grad_accum_steps",
    }.items()
    for other in others.split()
}
"""What nanoGPT, litgpt, transformers and torchtitan call it: only ever used to suggest the right name."""


def known_keys() -> list[str]:
    """Return every key of a config, dotted: `model.n_head`, `trainer.max_steps`, `seed_everything`."""
    ours = [f"{group}.{field.name}" for group, config in GROUPS.items() for field in fields(config)]
    trainer = [f"trainer.{name}" for name in trainer_arguments()]
    return [key for key in ["seed_everything", *ours, *trainer] if key not in ELSEWHERE]


def trainer_arguments() -> list[str]:
    """Return the arguments of Lightning's Trainer, parsed from its source: importing it takes seconds."""
    package = importlib.util.find_spec("lightning")
    assert package is not None
    assert package.submodule_search_locations is not None
    source = Path(package.submodule_search_locations[0]) / "pytorch" / "trainer" / "trainer.py"
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == "Trainer":
            constructor = next(f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
            return [argument.arg for argument in (*constructor.args.args, *constructor.args.kwonlyargs)][1:]
    raise AssertionError(f"{source} has no class Trainer")


def check_names(argv: Sequence[str], also: Sequence[str] = ()) -> None:
    """Raise ConfigError for the first unknown name in `argv` or in a YAML file that it names with --config.

    `also` are further options of the command, which a misspelt name may have meant.
    """
    known = known_keys()
    for option in _options(argv):
        if option in GROUPS or option == "trainer":
            raise ConfigError(f"--{option} is a group of settings: give them one by one, as --{option}.NAME VALUE")
        if option not in COMMAND_LINE:
            _check(option, [*known, *also], where="")
    for path in config_files(argv):
        content = load_yaml(path)
        if is_sweep_file(content):
            raise ConfigError(
                f"{path}: is a sweep file, the config of no single run: minigpt sweep {path} trains its runs, and its "
                f"base={shown(content['base'])} is a config"
            )
        for key in _yaml_keys(content, path):
            _check(key, known, where=f"{path}: ")


def config_files(argv: Sequence[str]) -> Iterator[Path]:
    """Yield the files that `--config FILE` or `--config=FILE` name."""
    for position, word in enumerate(argv):
        if word == "--config" and position + 1 < len(argv):
            yield find_config(argv[position + 1])
        elif word.startswith("--config="):
            yield find_config(word.removeprefix("--config="))


def is_sweep_file(content: dict[str, Any]) -> bool:
    """Whether the mapping of a YAML file is that of a sweep and not the config of one run."""
    return "base" in content and not {*GROUPS, "trainer"} & content.keys()


def _options(argv: Sequence[str]) -> Iterator[str]:
    for word in argv:
        if word.startswith("--"):
            yield word[2:].split("=", 1)[0].removesuffix("+")


def _yaml_keys(content: dict[Any, Any], path: Path) -> Iterator[str]:
    for group, values in content.items():
        if group not in GROUPS and group != "trainer":
            yield str(group)
        elif isinstance(values, dict):
            yield from (f"{group}.{name}" for name in values)
        else:
            rule = "is empty: leave it out, or give it settings" if values is None else "must be a mapping of settings"
            raise ConfigError(f"{path}: {group}{'' if values is None else f'={shown(values)}'} {rule}")


def _check(key: str, known: Sequence[str], where: str) -> None:
    """Check the first two parts of a key; what follows belongs to a class that the config names."""
    head = ".".join(key.split(".")[:2])
    if head in ELSEWHERE:
        raise ConfigError(f"{where}{head} is not set by hand: {ELSEWHERE[head]}")
    if head in known:
        return
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = _OTHER_NAMES.get(leaf) or (same_leaf[0] if same_leaf else None)
    hint = f", did you mean {near}?" if near else did_you_mean(key, known)
    raise ConfigError(f"{where}unknown key {key}{hint}")
