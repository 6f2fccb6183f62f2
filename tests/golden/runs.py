"""Run files, and the models and optimizers that they stand for, as tools/pytorch writes them into its scripts."""
from pathlib import Path

MODEL_KEYS = {"family", "implementation", "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context",
              "bias", "tied_embeddings", "dropout", "use_cache", "config"}
TRAINING_KEYS = {"micro_batch", "sequence", "gradient_accumulation", "precision", "attention", "optimizer", "grad_clip",
                 "compile", "steps", "evaluation", "loop"}


def load_run(path):
    import yaml

    run = yaml.safe_load(Path(path).read_text())
    unknown = (set(run) - {"framework", "model", "training", "device", "allocator", "passes"}
               | set(run["model"]) - MODEL_KEYS | set(run["training"]) - TRAINING_KEYS)
    if unknown:
        raise SystemExit(f"{path}: unknown keys: {', '.join(sorted(unknown))}")
    m, t = run["model"], run["training"]
    m.setdefault("implementation", "nanogpt" if m["family"] == "gpt2" else "transformers")
    m.setdefault("kv_heads", m["heads"])
    m.setdefault("ffn", 4 * m["hidden"])
    for key, value in dict(bias=False, tied_embeddings=True, dropout=0.0, use_cache=False, config={}).items():
        m.setdefault(key, value)
    for key, value in dict(sequence=m["context"], gradient_accumulation=1, precision="fp32", attention="auto", grad_clip=0.0,
                           compile=False, steps=3, evaluation=None, loop="nanogpt" if m["implementation"] == "nanogpt" else "plain",
                           optimizer=dict(name="adamw", implementation="foreach")).items():
        t.setdefault(key, value)
    if m["family"] != "gpt2" and m["implementation"] == "nanogpt":
        raise SystemExit(f"{path}: nanogpt implements gpt2 only")
    run.setdefault("device", "rtx4070")
    run.setdefault("allocator", dict(backend="native", conf=""))
    run.setdefault("passes", [])
    return run


def reentrant(run):
    """None, or use_reentrant of the checkpoints that the run file asks for."""
    for entry in run["passes"]:
        if set(entry) != {"recompute"} or entry["recompute"].get("policy") != "full":
            raise SystemExit(f"this pass can't be recorded: {entry}")
        return bool(entry["recompute"].get("reentrant", False))
    return None


def transformers_model(run, dtype):
    """A model with random weights from the family's own configuration class."""
    import transformers

    m, t = run["model"], run["training"]
    family, rate = m["family"], m["dropout"]
    common = dict(hidden_size=m["hidden"], num_hidden_layers=m["layers"], num_attention_heads=m["heads"], vocab_size=m["vocab"],
                  intermediate_size=m["ffn"], max_position_embeddings=m["context"])
    grouped = dict(common, num_key_value_heads=m["kv_heads"], attention_dropout=rate)
    arguments = {
        "gpt2": lambda: dict(n_embd=m["hidden"], n_layer=m["layers"], n_head=m["heads"], n_inner=m["ffn"], n_positions=m["context"],
                             vocab_size=m["vocab"], resid_pdrop=rate, embd_pdrop=rate, attn_pdrop=rate),
        "llama": lambda: dict(grouped, attention_bias=m["bias"], mlp_bias=m["bias"]),
        "mistral": lambda: grouped,
        "qwen2": lambda: grouped,
        "qwen3": lambda: dict(grouped, attention_bias=m["bias"]),
        "gemma": lambda: grouped,
        "phi": lambda: dict(grouped, resid_pdrop=rate, embd_pdrop=rate),
        "phi3": lambda: dict(grouped, resid_pdrop=rate, embd_pdrop=rate, pad_token_id=0),
        "gpt_neox": lambda: dict(common, hidden_dropout=rate, attention_dropout=rate),
        "opt": lambda: dict(hidden_size=m["hidden"], num_hidden_layers=m["layers"], num_attention_heads=m["heads"], ffn_dim=m["ffn"],
                            vocab_size=m["vocab"], max_position_embeddings=m["context"], word_embed_proj_dim=m["hidden"],
                            dropout=rate, attention_dropout=rate),
        "bert": lambda: dict(common, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate),
        "t5": lambda: dict(d_model=m["hidden"], num_layers=m["layers"], num_heads=m["heads"], d_ff=m["ffn"],
                           d_kv=m.get("head_dim", m["hidden"] // m["heads"]), vocab_size=m["vocab"], dropout_rate=rate, decoder_start_token_id=0),
    }
    if family not in arguments:
        raise SystemExit(f"unknown family {family!r}: one of {', '.join(arguments)}")
    extra = {"head_dim": m["head_dim"]} if "head_dim" in m and family != "t5" else {}
    config = transformers.AutoConfig.for_model(family, **{**arguments[family](), **extra, "use_cache": m["use_cache"],
                                                          "tie_word_embeddings": m["tied_embeddings"], **m["config"]})
    kind = {"bert": transformers.AutoModelForMaskedLM, "t5": transformers.AutoModelForSeq2SeqLM}.get(
        family, transformers.AutoModelForCausalLM)
    model = kind.from_config(config, dtype=dtype, attn_implementation="eager" if t["attention"] == "eager" else "sdpa")
    how = reentrant(run)
    if how is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": how})
    return model


def nanogpt_model(run, dtype):
    import nanogpt

    return nanogpt.Gpt(run["model"], manual=run["training"]["attention"] == "eager", reentrant=reentrant(run)).to(dtype)


def make_optimizer(run, model):
    import torch

    o = dict(run["training"]["optimizer"])
    name, implementation = o.pop("name"), o.pop("implementation", None)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop,
             "adagrad": torch.optim.Adagrad, "adafactor": torch.optim.Adafactor}
    how = {"fused": dict(fused=True), "foreach": dict(foreach=True), "for-loop": dict(foreach=False),
           None: {}}[implementation]
    if implementation == "for-loop" and name in ("adamw", "adam", "sgd", "adagrad"):
        how["fused"] = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    if run["training"]["loop"] == "nanogpt":  # matrices decay, vectors don't
        groups = [dict(params=[p for p in parameters if p.dim() >= 2], weight_decay=0.1 if name != "sgd" else 0.0),
                  dict(params=[p for p in parameters if p.dim() < 2], weight_decay=0.0)]
    else:
        groups = parameters
    return kinds[name](groups, lr=1e-4, **how, **o)
