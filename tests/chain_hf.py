"""Tiny llama models as transformers folders, written without downloading anything.

`write_chain_hf` tells a known story, by the same trick as `chain_gguf`. `write_random_hf` looks at every token
before, as real models do, and says something that is known only by asking it.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from chain_gguf import STORY

CONTEXT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFolder:
    """A written model. `story` holds the token ids that follow an empty prompt, the end of text last."""

    path: Path
    story: tuple[int, ...]


def write_chain_hf(path: Path) -> ChainFolder:
    """Write the model, about 0.4 MB."""
    import torch

    tokenizer = _tokenizer()
    model = _model(tokenizer)
    story = (*tokenizer(STORY).input_ids, tokenizer.eos_token_id)
    assert len(set(story)) == len(story), "a token of the story comes twice"
    size, width = model.model.embed_tokens.weight.shape
    embedding = torch.nn.functional.normalize(torch.randn(size, width), dim=1)
    output = torch.zeros(size, width)
    for token, following in pairwise(story):
        output[following] += 20 / width**0.5 * embedding[token]
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embedding)
        model.lm_head.weight.copy_(output)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    _write(model, tokenizer, path)
    return ChainFolder(path=path, story=story)


def write_random_hf(path: Path) -> Path:
    """Write the model. Its own settings ask for sampling, and it never ends a text by itself."""
    tokenizer = _tokenizer()
    model = _model(tokenizer)
    settings = model.generation_config
    settings.update(do_sample=True, temperature=0.6, top_p=0.9, repetition_penalty=1.7, eos_token_id=None)
    _write(model, tokenizer, path)
    return path


def _write(model: Any, tokenizer: Any, path: Path) -> None:
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _tokenizer() -> Any:
    """Return a byte-level BPE learnt from the story's ASCII words; other letters stay bytes, as in chain_gguf."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=1,
        show_progress=False,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator([" ".join(word for word in STORY.split() if word.isascii())], trainer)
    # No padding token and the wrong side: the runner has to make its batches without them.
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", padding_side="right")


def _model(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,  # strong enough that what is said depends on what was read
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()
