"""Tiny ColBERT checkpoints with random weights, in each of the three formats and with every convention that matters.

Weights are drawn ten times wider than a real model's: then masks, markers and activations move the scores.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

HIDDEN, DIM = 32, 16
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
_CORPUS = [
    "late interaction keeps one embedding a token",
    "the capital of France is Paris, on the river Seine",
    "remove a directory and everything in it: shutil.rmtree(path)",
    "a custard base with a layer of caramelised sugar",
    "binomial theorem: powers of a sum, row by row",
]


def word_piece(special: list[str] = _SPECIAL) -> Tokenizer:
    """As BERT's: lower case, [CLS] text [SEP]; characters and a few words. The special tokens come first, in order."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    words = [word for line in _CORPUS for word in line.lower().split() if word.isalpha() and len(word) > 2]
    pieces = [*special, *characters, *(f"##{c}" for c in string.ascii_lowercase + string.digits), "##ing", *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    _surround(tokenizer)
    return tokenizer


def byte_pair() -> Tokenizer:
    """As ModernBERT's: byte pairs, case kept."""
    tokenizer = byte_pair_without_special_tokens()
    _surround(tokenizer)
    return tokenizer


def byte_pair_without_special_tokens() -> Tokenizer:
    """An empty text has no tokens at all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def _surround(tokenizer: Tokenizer) -> None:
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)


def save_tokenizer(folder: Path, tokenizer: Tokenizer, added: tuple[str, ...] = ()) -> int:
    """Saves it as transformers does, with tokens `added` as PyLate adds its markers; returns the vocabulary's size."""
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )
    wrapped.add_tokens([AddedToken(token) for token in added])
    wrapped.save_pretrained(folder)
    return len(wrapped)


def bert(vocabulary: int) -> BertModel:
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    return BertModel(config)


def modern_bert(vocabulary: int) -> ModernBertModel:
    config = ModernBertConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=128,
        layer_types=["full_attention", "sliding_attention"],
        local_attention=8,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    )
    return ModernBertModel(config)


FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "electra": {"embedding_size": 24},
    "distilbert": {"dim": HIDDEN, "n_layers": 1, "n_heads": 4, "hidden_dim": 48},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "mpnet": {},
    "xlm": {"emb_dim": HIDDEN, "n_layers": 1, "n_heads": 4},
    "deberta-v2": {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"]},
    "deberta": {"relative_attention": False, "position_biased_input": True},
    "modernbert": {"layer_types": ["full_attention"], "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
}
"""Backbones by their model_type, and the settings of each beside sizes."""


def family(model_type: str, vocabulary: int, pad_token_id: int, positions: int) -> Any:
    """A backbone of one layer."""
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    options = {"vocab_size": vocabulary, "pad_token_id": pad_token_id, "max_position_embeddings": positions}
    config = AutoConfig.for_model(model_type, **(sizes | options | FAMILIES[model_type]))
    return AutoModel.from_config(config)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def stanford(folder: Path, **metadata: Any) -> None:
    """As colbert-ai saves: one weight file for backbone and projection, settings in artifact.metadata."""
    model = bert(save_tokenizer(folder, word_piece()))
    weights = {f"bert.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    save_file({**weights, "linear.weight": torch.randn(DIM, HIDDEN)}, folder / "model.safetensors")
    _write_json(folder / "config.json", {**model.config.to_dict(), "architectures": ["HF_ColBERT"]})
    defaults = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "dim": DIM, "similarity": "cosine"}
    _write_json(folder / "artifact.metadata", {**defaults, **metadata})


def pylate(
    folder: Path, tokenizer: Tokenizer, backbone: Callable[[int], Any], dense: list[dict[str, Any]], **settings: Any
) -> None:
    """As PyLate saves: backbone and projections as modules, everything else at the top level."""
    prefixes = tuple(settings[key] for key in ("query_prefix", "document_prefix"))
    backbone(save_tokenizer(folder, tokenizer, added=prefixes)).save_pretrained(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for i, config in enumerate(dense, start=1):
        path = f"{i}_Dense"
        modules.append({"idx": i, "name": str(i), "path": path, "type": "pylate.models.Dense.Dense"})
        _write_json(folder / path / "config.json", config)
        weights = {"linear.weight": torch.randn(config["out_features"], config["in_features"]) / 4}
        if config["bias"]:
            weights["linear.bias"] = torch.randn(config["out_features"])
        if config.get("use_residual") and config["in_features"] != config["out_features"]:
            weights["residual.weight"] = torch.randn(config["out_features"], config["in_features"]) / 4
        save_file(weights, folder / path / "model.safetensors")
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": 47, "do_lower_case": False})
    _write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "MaxSim", **settings})


def sentence_transformers(
    folder: Path,
    tokenizer: Tokenizer,
    backbone: Callable[[int], Any],
    head: list[nn.Module],
    prompts: dict[str, str] | None = None,
    similarity: str = "maxsim",
    **transformer: Any,
) -> None:
    """As Sentence Transformers 6 saves, by Sentence Transformers itself."""
    bare = folder / "bare"
    backbone(save_tokenizer(bare, tokenizer)).save_pretrained(bare)
    modules = [Transformer(str(bare), **transformer), *head]
    model = MultiVectorEncoder(modules=modules, prompts=prompts, similarity_fn_name=similarity, device="cpu")
    model.save(str(folder), create_model_card=False)


def projection(in_features: int, out_features: int, **options: Any) -> Dense:
    return Dense(in_features, out_features, module_input_name="token_embeddings", **options)


def normalise() -> Normalize:
    return Normalize(module_input_name="token_embeddings")


_IDENTITY = "torch.nn.modules.linear.Identity"
_PUNCTUATION = list(string.punctuation)


def stanford_unattended(folder: Path) -> None:
    stanford(folder, query_maxlen=16, doc_maxlen=40, mask_punctuation=True, attend_to_mask_tokens=False)


def stanford_attended(folder: Path) -> None:
    stanford(folder, query_maxlen=24, doc_maxlen=50, mask_punctuation=False, attend_to_mask_tokens=True)


def pylate_modern_bert(folder: Path) -> None:
    """Markers that are tokens of their own, no expansion: LateOn, GTE-ModernColBERT."""
    pylate(
        folder,
        byte_pair(),
        modern_bert,
        [{"in_features": HIDDEN, "out_features": DIM, "bias": False, "activation_function": _IDENTITY}],
        model_type="ColBERT",
        query_prefix="[Q] ",
        document_prefix="[D] ",
        query_length=20,
        document_length=48,
        do_query_expansion=False,
        attend_to_expansion_tokens=False,
        skiplist_words=_PUNCTUATION,
    )


def pylate_early(folder: Path) -> None:
    """No model_type, expansion by default, two projections with bias, activation and residual."""
    pylate(
        folder,
        word_piece(),
        bert,
        [
            {
                "in_features": HIDDEN,
                "out_features": 48,
                "bias": True,
                "activation_function": "torch.nn.modules.activation.Tanh",
            },
            {
                "in_features": 48,
                "out_features": DIM,
                "bias": True,
                "activation_function": "torch.nn.modules.activation.GELU",
                "use_residual": True,
            },
        ],
        query_prefix="[unused0]",
        document_prefix="[unused1]",
        query_length=18,
        document_length=44,
        skiplist_words=["the", "of", ",", "not-one-token"],
    )


def native_min_expansion(folder: Path) -> None:
    """Expansion to a floor, a prompt of words, a skiplist for queries too, scores divided by the query's tokens."""
    sentence_transformers(
        folder,
        word_piece(),
        bert,
        [
            projection(HIDDEN, DIM, bias=True, activation_function=nn.GELU(), use_residual=True),
            MultiVectorMask(skiplist_words=["the", "?", "[SEP]"], skiplist_tasks=["query", "document"]),
            normalise(),
        ],
        prompts={"query": "the query: ", "document": "text: "},
        similarity="meanmaxsim",
        query_length=30,
        document_length=60,
        query_expansion={"strategy": "min", "length": 12, "attend": False},
    )


def native_attended(folder: Path) -> None:
    """Fixed expansion that the attention sees, by another token than [MASK], on ModernBERT's local attention."""
    sentence_transformers(
        folder,
        byte_pair(),
        modern_bert,
        [
            projection(HIDDEN, HIDDEN, bias=False, activation_function=nn.Identity(), use_residual=True),
            MultiVectorMask(skiplist_words=_PUNCTUATION),
            projection(HIDDEN, DIM, bias=False, activation_function=nn.Tanh()),
            normalise(),
        ],
        prompts={"query": "[unused0]", "passage": "[unused1]"},
        document_length=120,
        query_expansion={"strategy": "fixed", "length": 21, "attend": True, "token": "[SEP]"},
    )


def native_plain(folder: Path) -> None:
    """Nothing but a backbone and a normalisation: no lengths, no prompts, no mask module."""
    sentence_transformers(folder, word_piece(), bert, [normalise()])


def native_without_special_tokens(folder: Path) -> None:
    """An allow list of tokens, and texts that can have no tokens."""
    sentence_transformers(
        folder,
        byte_pair_without_special_tokens(),
        modern_bert,
        [
            projection(HIDDEN, DIM, bias=False, activation_function=nn.Identity()),
            MultiVectorMask(skiplist_words=["a"], keep_only_token_ids=list(range(60, 340))),
            normalise(),
        ],
        query_length=25,
        document_length=37,
    )


def native_far_expansion(folder: Path) -> None:
    """Expansion that is not attended to, beyond the 4 tokens that ModernBERT's local attention reaches."""
    sentence_transformers(
        folder,
        byte_pair(),
        modern_bert,
        [projection(HIDDEN, DIM, bias=False, activation_function=nn.Identity()), MultiVectorMask(), normalise()],
        document_length=40,
        query_expansion={"strategy": "fixed", "length": 30, "attend": False},
    )


VARIANTS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker
    for maker in (
        stanford_unattended,
        stanford_attended,
        pylate_modern_bert,
        pylate_early,
        native_min_expansion,
        native_attended,
        native_plain,
        native_without_special_tokens,
        native_far_expansion,
    )
}


def make(folder: Path, variant: str) -> Path:
    """The checkpoint `variant` in a folder of its own within `folder`."""
    torch.manual_seed(list(VARIANTS).index(variant))
    checkpoint = folder / variant
    checkpoint.mkdir(parents=True)
    VARIANTS[variant](checkpoint)
    return checkpoint
