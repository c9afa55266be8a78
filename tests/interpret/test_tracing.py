"""A trace is the forward pass, and an edit of it is what it says."""

import pytest
import torch
from model.variants import FEW_VARIANTS, VARIANTS, name, random_tokens, randomise, small_config, small_model
from torch.testing import assert_close

from minigpt import interpret
from minigpt.errors import ConfigError
from minigpt.interpret.edits import patch, patch_heads, zero, zero_heads
from minigpt.interpret.tracing import activation_names, edited
from minigpt.model.attention import attention_weights, share_heads
from minigpt.model.cache import KVCache
from minigpt.model.gpt import GPT

ATTENTIONS = ["fused", "explicit"]


def trained(**settings) -> GPT:
    """In float32, in which the kernels differ by rounding."""
    model = GPT(small_config(**settings)).eval()
    randomise(model)
    return model


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("variant", VARIANTS[::5], ids=name)
def test_equals_the_forward_pass_to_the_bit(variant, attention):
    model = trained(**variant, attention=attention)
    tokens = random_tokens(model.config)
    for mode in (torch.no_grad, torch.enable_grad):
        with mode():
            assert torch.equal(interpret.trace(model, tokens).logits, model(tokens))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_equals_a_training_pass_to_the_bit(attention):
    model = trained(attention=attention, dropout=0.3).train()
    tokens = random_tokens(model.config)
    torch.manual_seed(1)
    plain = model(tokens)
    torch.manual_seed(1)
    assert torch.equal(interpret.trace(model, tokens).logits, plain)


@pytest.mark.parametrize("variant", FEW_VARIANTS, ids=name)
def test_names_and_shapes(variant):
    model = small_model(**variant)
    trace = interpret.trace(model, random_tokens(model.config))
    B, T, C, H, D, F = 3, 12, 16, 4, 4, model.config.ff_width
    shapes = {
        "stream": (B, T, C), "query": (B, H, T, D), "key": (B, model.config.kv_heads, T, D),
        "value": (B, model.config.kv_heads, T, D), "pattern": (B, H, T, T), "heads": (B, H, T, D),
        "attention": (B, T, C), "hidden": (B, T, F), "feedforward": (B, T, C), "final": (B, T, C),
        "logits": (B, T, 19),
    }  # fmt: skip
    assert list(trace) == activation_names(model)
    assert {key: tuple(value.shape) for key, value in trace.items()} == {
        key: shapes[key.partition(".")[0]] for key in trace
    }


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_activations_follow_from_one_another(attention, position):
    """From the stream to the logits, each from those before it: so none is another's, nor one of another moment."""
    model = small_model(attention=attention, position=position, n_kv_head=2, qk_norm=True)
    trace = interpret.trace(model, random_tokens(model.config))
    for layer, block in enumerate(model.blocks):
        signals = model.position.signals(trace["stream.0"], 0)
        x = block.attention_norm(trace[f"stream.{layer}"])
        for kind, expected in zip(("query", "key", "value"), block.attention.project(x, signals), strict=True):
            assert torch.equal(trace[f"{kind}.{layer}"], expected)
        q, k, v = (trace[f"{kind}.{layer}"] for kind in ("query", "key", "value"))
        assert torch.equal(trace[f"pattern.{layer}"], attention_weights(q, k, signals.bias))
        gathered = trace[f"pattern.{layer}"] @ share_heads(v, 4)
        assert_close(trace[f"heads.{layer}"], gathered)
        assert_close(trace[f"attention.{layer}"], block.attention.output(gathered.transpose(1, 2).flatten(2)))
        middle = trace[f"stream.{layer}"] + trace[f"attention.{layer}"]
        assert_close(trace[f"feedforward.{layer}"], block.feedforward(block.feedforward_norm(middle)))
        assert torch.equal(trace[f"feedforward.{layer}"], block.feedforward.down(trace[f"hidden.{layer}"]))
        assert torch.equal(trace[f"stream.{layer + 1}"], middle + trace[f"feedforward.{layer}"])
    assert torch.equal(trace["final"], model.final_norm(trace["stream.2"]))
    assert torch.equal(trace["logits"], model.head(trace["final"]))
    assert trace.stack("stream").shape == (3, 3, 12, 16)
    assert torch.equal(trace.stack("pattern")[1], trace["pattern.1"])


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("variant", FEW_VARIANTS, ids=name)
def test_every_head_ablated_is_a_zeroed_output_projection(variant, attention):
    model = trained(**variant, attention=attention)
    tokens = random_tokens(model.config)
    plain = model(tokens)
    ablated = interpret.trace(model, tokens, edits={"heads": zero_heads(0, 1, 2, 3)}).logits
    for block in model.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)
    assert torch.equal(ablated, model(tokens))
    assert not torch.equal(ablated, plain)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_one_head_ablated_is_its_columns_zeroed(attention):
    model = small_model(attention=attention)
    tokens = random_tokens(model.config)
    ablated = interpret.trace(model, tokens, edits={"heads.1": zero_heads(2)})
    with torch.no_grad():
        model.blocks[1].attention.output.weight[:, 8:12] = 0
    assert_close(ablated.logits, model(tokens))
    assert not ablated["heads.1"][:, 2].any(), "what an edit gave is what is kept"
    assert ablated["heads.1"][:, 1].all()
    assert_close(interpret.trace(model, tokens, edits={"heads.1": zero_heads(-2)}).logits, ablated.logits)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_pattern_of_ones_own_changes_nothing_and_another_does(attention):
    model = small_model(attention=attention, n_kv_head=1)
    tokens = random_tokens(model.config)
    plain = model(tokens)
    assert_close(interpret.trace(model, tokens, edits={"pattern": lambda pattern: pattern * 1.0}).logits, plain)
    itself = torch.eye(12, dtype=torch.float64)
    seen = interpret.trace(model, tokens, edits={"pattern.0": patch(itself)})
    assert torch.equal(seen["pattern.0"], itself.expand(3, 4, 12, 12))
    assert_close(seen["heads.0"], seen["value.0"].expand(3, 4, 12, 4))
    assert not torch.allclose(seen.logits, plain)


@pytest.mark.parametrize("variant", FEW_VARIANTS, ids=name)
def test_the_stream_of_another_run_makes_it_that_run(variant):
    model = trained(**variant)
    one, other = random_tokens(model.config, seed=1), random_tokens(model.config, seed=2)
    theirs = interpret.trace(model, other)
    assert torch.equal(interpret.trace(model, one, edits={"stream.1": patch(theirs["stream.1"])}).logits, theirs.logits)
    at_five = interpret.trace(model, one, edits={"stream.2": patch(theirs["stream.2"], [5])})
    same = (at_five.logits == model(one)).flatten(2).all(-1)
    assert same.all(0).tolist() == [position != 5 for position in range(12)]
    assert torch.equal(at_five.logits[:, 5], theirs.logits[:, 5])


def test_heads_of_another_run():
    model = small_model()
    one, other = random_tokens(model.config, seed=1), random_tokens(model.config, seed=2)
    theirs = interpret.trace(model, other)["heads.0"]
    patched = interpret.trace(model, one, edits={"heads.0": patch_heads(theirs, 1, 3)})["heads.0"]
    assert torch.equal(patched[:, [1, 3]], theirs[:, [1, 3]])
    assert torch.equal(patched[:, [0, 2]], interpret.trace(model, one)["heads.0"][:, [0, 2]])


@pytest.mark.parametrize("kind", ["query", "key", "value", "attention", "hidden", "feedforward", "final", "logits"])
def test_each_kind_can_be_edited(kind):
    model = small_model()
    tokens = random_tokens(model.config)
    seen = interpret.trace(model, tokens, edits={kind: zero})
    assert not any(value.any() for key, value in seen.items() if key.startswith(kind))
    assert not torch.allclose(seen.logits, model(tokens))


def test_gradients_reach_what_was_traced():
    model = small_model()
    trace = interpret.trace(model, random_tokens(model.config))
    gradient = torch.autograd.grad(trace.logits.sum(), [trace["stream.1"], trace["heads.0"], trace["hidden.1"]])
    assert all(each.any() for each in gradient)


def test_keeps_what_is_asked_for():
    model = small_model()
    tokens = random_tokens(model.config)
    whole = interpret.trace(model, tokens)
    some = interpret.trace(model, tokens, keep=["pattern.1", "stream", "logits"])
    assert list(some) == ["stream.0", "stream.1", "pattern.1", "stream.2", "logits"]
    assert all(torch.equal(some[key], whole[key]) for key in some)


def test_nothing_stays(monkeypatch):
    model = small_model()
    tokens = random_tokens(model.config)
    before = [block.attention.attend for block in model.blocks], list(model.state_dict())

    def fails(x):
        raise RuntimeError("in an edit")

    interpret.trace(model, tokens, edits={"heads": zero})
    for edit in ("stream.1", "heads.1", "logits"):
        with pytest.raises(RuntimeError, match="in an edit"):
            interpret.trace(model, tokens, edits={edit: fails})
    assert ([block.attention.attend for block in model.blocks], list(model.state_dict())) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_compiled_loss_is_not_compiled_anew():
    model = trained()
    tokens = random_tokens(model.config)
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    loss = torch.compile(model.loss, backend=backend)
    before = loss(tokens, tokens)
    compiled = len(graphs)
    interpret.trace(model, tokens, edits={"heads": zero_heads(0)})
    assert torch.equal(loss(tokens, tokens), before)
    assert len(graphs) == compiled


def test_edits_hold_for_a_block():
    model = small_model(position="rotary")
    tokens = random_tokens(model.config)
    edits = {"heads.0": zero_heads(1), "pattern.1": zero_heads(0)}
    expected = interpret.trace(model, tokens, edits=edits).logits
    plain = model.loss(tokens, tokens)
    with edited(model, edits):
        cache = KVCache(model.config, 3, 12, dtype=torch.float64)
        with torch.no_grad():
            stepwise = torch.cat([model(tokens[:, t : t + 1], cache) for t in range(12)], dim=1)
        assert not torch.allclose(model.loss(tokens, tokens), plain)
    assert_close(stepwise, expected)
    assert torch.equal(model.loss(tokens, tokens), plain)


def test_a_model_without_layers():
    model = small_model(n_layer=0)
    trace = interpret.trace(model, random_tokens(model.config))
    assert list(trace) == ["stream.0", "final", "logits"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": ["patern"]}, "there is no activation patern, did you mean pattern?"),
        ({"edits": {"heads.2": zero}}, r"there is no activation heads\.2, did you mean heads\.[01]\?"),
        ({"edits": {"heads.1": zero_heads(4)}}, "there is no head 4: there are 4, counted from 0"),
        (
            {"edits": {"stream.1": lambda x: x[0]}},
            r"the edit of stream\.1 gave the shape \(12, 16\), not \(3, 12, 16\)",
        ),
    ],
)
def test_what_is_wrong_is_one_line(wrong, message):
    model = small_model()
    with pytest.raises(ConfigError, match=message):
        interpret.trace(model, random_tokens(model.config), **wrong)


def test_what_is_not_there():
    trace = interpret.trace((model := small_model()), random_tokens(model.config), keep=["stream.1"])
    with pytest.raises(ConfigError, match=r"there is no activation steam\.1, did you mean stream\.1\?"):
        trace["steam.1"]
    with pytest.raises(ConfigError, match=r"the activation logits was not kept: keep holds stream\.1"):
        _ = trace.logits


def test_logits_are_edited_in_a_trace_alone():
    """A loss has them as (N, V), in pieces where the vocabulary is large: an edit by position would mean another."""
    model = GPT(small_config())
    with pytest.raises(ConfigError, match="logits can only be edited in a trace"), edited(model, {"logits": zero}):
        pass


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"stream.1": zero_heads(2)}, r"shape \([\d, ]+\) has no heads: heads, query"),
        ({"stream.1": patch(torch.zeros(16), [12])}, "no position 12: there are 12, counted from 0"),
        ({"stream.1": patch(torch.zeros(7))}, r"shape \(7,\) does not fit an activation of shape \(3, 12, 16\)"),
        (
            {"heads.1": patch_heads(torch.zeros(7), 0)},
            r"shape \(7,\) does not fit an activation",
        ),
        ({"final": lambda x: None}, "the edit of final gave no tensor but None"),
    ],
)
def test_an_edit_that_does_not_fit_is_one_line(edits, message):
    model = small_model()
    with pytest.raises(ConfigError, match=message):
        interpret.trace(model, random_tokens(model.config), edits=edits)
