"""Sizes in closed form: parameters, FLOPs per token, bytes of activations and of the cache. Imports no torch.

Those of a model with components of the user's own are counted on the real model instead, by `measured`.
"""

from minigpt.model.config import GATED_ACTIVATIONS, GPTConfig, loss_rows

INDEX_BYTES = 8
"""A token id is an int64."""


def parameter_count(config: GPTConfig) -> int:
    """Return the number of trained parameters; a tied output layer counts once, with the token embedding."""
    return sum(parameters_by_part(config).values())


def parameters_by_part(config: GPTConfig) -> dict[str, int]:
    """Return the parameters of each part of the model, over all layers.

        token_embedding   V C
        position          T C                                        only learned positions
        attention         L (C (C + 2 Hkv D) + C C) + biases         + 2 L D with qk_norm
        feedforward       L * 2 C F + biases                         3 C F for the gated activations
        norms             (2 L + 1) C, twice that with biases        2 L instead of 2 L + 1 for post-norm
        head              V C                                        0 when tied

    A linear layer has as many biases as outputs; of the norms only layernorm has any.
    Without norm_gain the norms, those of queries and keys too, have no parameters.
    """
    if config.custom_names():
        from minigpt.model.measured import counted_by_part

        return counted_by_part(config)
    C, F, L = config.n_embd, config.ff_width, config.n_layer
    qkv_width = C + 2 * config.kv_heads * config.head_width
    n_up = 2 if config.activation in GATED_ACTIVATIONS else 1  # gate and up, or up alone

    attention = (
        C * qkv_width
        + C * C
        + config.bias * (qkv_width + C)
        + config.qk_norm * config.norm_gain * 2 * config.head_width
    )
    feedforward = (n_up + 1) * C * F + config.bias * (n_up * F + C)
    norm = config.norm_gain * C * (2 if config.norm == "layernorm" and config.bias else 1)
    return {
        "token_embedding": config.vocab_size * C,
        "position": config.block_size * C if config.position == "learned" else 0,
        "attention": L * attention,
        "feedforward": L * feedforward,
        "norms": norm * (2 * L + (config.norm_placement == "pre")),
        "head": 0 if config.tie_embeddings else config.vocab_size * C,
    }


def forward_flops_per_token(config: GPTConfig) -> int:
    """Return the FLOPs of the matrix products of one token's forward pass in a full window of block_size.

    A product with an (m, n) matrix costs m n multiplications and as many additions for each token: 2 N over all N
    weights of the products, including the output layer (tied or not) but not the embeddings, which are looked up. Each
    query meets T keys in each layer, with C multiplications and additions for the scores and C for the weighted sum:
    4 L C T. The masked half of these is not subtracted, as is usual (Kaplan et al. 2020, table 1; Chowdhery et al.
    2022, appendix B), nor what lies outside a sliding window: our kernels compute it and mask it.
    """
    if config.custom_names():
        from minigpt.model.measured import counted_flops

        return counted_flops(config)
    C = config.n_embd
    multiplied = block_matrix_parameters(config) + C * config.vocab_size
    return 2 * multiplied + 4 * config.n_layer * C * config.block_size


def block_matrix_parameters(config: GPTConfig) -> int:
    """Return the number of weights of the blocks' linear layers without biases: those that Muon updates."""
    if config.custom_names():
        from minigpt.model.measured import counted_block_matrices

        return counted_block_matrices(config)
    C, F = config.n_embd, config.ff_width
    qkv_width = C + 2 * config.kv_heads * config.head_width
    n_matrices = 3 if config.activation in GATED_ACTIVATIONS else 2
    return config.n_layer * (C * qkv_width + C * C + n_matrices * C * F)


def flops_per_token(config: GPTConfig) -> int:
    """Return the FLOPs of training on one token: 6 N + 12 L C T, with N, L, C and T as in the forward pass.

    The backward pass costs twice the forward pass, one product for the gradient of each factor. What a kernel
    recomputes to save memory is not counted, as in model FLOPs utilisation (MFU).
    """
    return 3 * forward_flops_per_token(config)


def cache_bytes(config: GPTConfig, batch_size: int, length: int, bytes_per_element: int = 4) -> int:
    """Return the bytes of a KVCache: a key and a value of Hkv D numbers for each position, layer and sequence."""
    numbers = 2 * config.n_layer * config.kv_heads * config.head_width
    return batch_size * length * numbers * bytes_per_element


def activation_bytes(config: GPTConfig, batch_size: int, bytes_per_element: int = 4) -> int:
    """Return the bytes that autograd keeps of `loss` on a batch of full windows for the backward pass.

    Parameters are not counted, and a tensor that several operations keep is counted once. The count is that of a model
    with CPU kernels on a CPU (two or more sequences). A GPU keeps less in places: dropout masks of one byte, and no
    attention weights for fused attention with dropout, which no CPU kernel has. With bytes_per_element=2 (bfloat16) it
    is an estimate, since norms and loss stay in float32; and so it is with components of the user's own.
    """
    if config.custom_names():
        from minigpt.model.measured import kept_numbers

        floats, others = kept_numbers(config, batch_size)
        return floats * bytes_per_element + others
    T, C = config.block_size, config.n_embd
    dropped = C if config.dropout > 0 else 0  # the mask of one (B, T, C) dropout
    block = _attention_numbers(config) + _feedforward_numbers(config) + 2 * _norm_numbers(config, C) + 2 * dropped
    final_norm = _norm_numbers(config, C) if config.norm_placement == "pre" else 0
    per_token = dropped + config.n_layer * block + final_norm + C  # C: the input of the head, or its gradient
    numbers = batch_size * T * per_token + _kept_by_loss(config, batch_size * T) + _position_numbers(config)
    tokens_and_targets = 2 * batch_size * T * INDEX_BYTES
    return numbers * bytes_per_element + tokens_and_targets


def kept_logits_bytes(config: GPTConfig, batch_size: int, bytes_per_element: int = 4) -> int:
    """Return the part of `activation_bytes` that the loss keeps, which is as wide as the vocabulary."""
    return _kept_by_loss(config, batch_size * config.block_size) * bytes_per_element


def passing_logits_bytes(config: GPTConfig, batch_size: int) -> int:
    """Return the bytes that the loss needs in addition at its peak, when all other activations are in memory.

    They are float32 whatever the precision, as the loss is. Computed at once, the peak is at the beginning of the
    backward pass: the gradients of the log-probabilities and of the logits. In chunks, it is at the end of the forward
    pass, and adds the log-probabilities of one chunk and the gradient of the head's matrix from the chunk before.
    """
    n_tokens, rows = batch_size * config.block_size, loss_rows(config.vocab_size)
    per_word = 2 * n_tokens if n_tokens <= rows else 3 * rows + config.n_embd
    return per_word * config.vocab_size * 4


def _kept_by_loss(config: GPTConfig, n_tokens: int) -> int:
    """Count the tanh of the soft cap and the log-probabilities; in chunks only the gradient of the head's matrix."""
    if n_tokens > loss_rows(config.vocab_size):
        return config.vocab_size * config.n_embd
    return n_tokens * (2 if config.logit_softcap else 1) * config.vocab_size


def _norm_numbers(config: GPTConfig, width: int) -> int:
    """Count what is kept of one vector: its input, layernorm's mean and deviation, or rmsnorm's scale and scaled input.

    Without a gain the scaled input is the result, which the next operation keeps.
    """
    if config.norm == "layernorm":
        return width + 2
    return (2 if config.norm_gain else 1) * width + 1


def _attention_numbers(config: GPTConfig) -> int:
    """Count what one layer's attention keeps of one token, without the norm before it."""
    C, H, T = config.n_embd, config.n_head, config.block_size
    kv_width = config.kv_heads * config.head_width
    qkv_width = C + 2 * kv_width
    inputs = C + C  # of the linear layers qkv and output
    qk_norm = H + config.kv_heads if config.qk_norm else 0  # the scales of both
    if config.qk_norm and config.norm_gain:
        qk_norm += C + kv_width  # both scaled
    if config.attention == "explicit" or config.dropout > 0:
        weights = 3 * H * T if config.dropout > 0 else H * T  # the softmax; with dropout its mask and result too
        projected = qkv_width if config.qk_norm else 0  # what the norms of queries and keys read
        return inputs + qk_norm + projected + 3 * C + weights  # q, k, v, spread over all heads, in a row each
    # The kernel keeps q, k, v, its output (the input of `output`, counted above), and one sum for each row.
    # q and k are parts of the projection, unless something changed them on the way.
    changed = C + kv_width if config.qk_norm or config.position == "rotary" else 0
    return inputs + qk_norm + qkv_width + changed + H


def _feedforward_numbers(config: GPTConfig) -> int:
    """Count what one layer's feed-forward keeps of one token, without the norm before it."""
    C, F = config.n_embd, config.ff_width
    if config.activation in GATED_ACTIVATIONS:
        return C + 4 * F  # gate(x), activation(gate(x)), up(x), their product
    if config.activation == "relu":
        return C + F  # relu keeps its output, which is the input of `down`
    return C + 2 * F  # what the activation reads (relu2: squares), and the input of `down`


def _position_numbers(config: GPTConfig) -> int:
    """Count what is kept once for all sequences and layers."""
    T = config.block_size
    if config.n_layer == 0:
        return 0
    numbers = T * config.head_width if config.position == "rotary" else 0  # cosines and sines
    if config.attention == "fused" and config.dropout == 0:  # the kernel keeps the bias of each kind of layer
        windows, alibi = set(config.windows), config.position == "alibi"
        n_biases = len(windows) if alibi else len(windows - {None})
        numbers += n_biases * (config.n_head if alibi else 1) * T * T
    return numbers
