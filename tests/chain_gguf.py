"""A tiny llama model that must say a known story, written without downloading anything.

Attention output and FFN-down are zero, so the hidden state is the embedding of the last token, and the
output matrix leads from each token of the story to the next, from the last one to the end of the text.
Every matrix product is still computed. Greedy decoding then has one right answer, token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

UNKNOWN, BEGIN, END = 0, 1, 2
SPACE = "\u2581"

# No token may come twice, for the model is a map from one token to the next. The word with letters beyond
# ASCII is left out of the vocabulary and falls to byte tokens: é takes two of them and the battery four.
# One word is longer than the 32 bytes to which llama-cpp-python's own detokenize is limited.
STORY = (
    "Once upon a time small robots measured joules for every word they said , counting "
    "kilowatthoursandmegawatthoursandgigawatthours by day until batteries ran dry ; "
    "then sleep came and café🔋 dreams refilled them all ."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A written model. `story` holds the token ids that follow an empty prompt, the end of text last."""

    path: Path
    story: tuple[int, ...]

    def tokens_after(self, prompt_tokens: int) -> int:
        """Return how many tokens follow a prompt of the story's beginning, BEGIN counted in it."""
        return len(self.story) - (prompt_tokens - 1)


def write_chain_gguf(path: Path, *, name: str | None = "chain", width: int = 64, layers: int = 2) -> Chain:
    """Write the model, about 0.3 MB; without a `name` the file does not say its name and type."""
    vocabulary = _vocabulary()
    ids = {piece: number for number, (piece, _, _) in enumerate(vocabulary)}
    story = (*_story_ids(ids), END)
    assert len(set(story)) == len(story), "a token of the story comes twice"

    random = np.random.default_rng(0)
    embedding = random.standard_normal((len(vocabulary), width)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    output = np.zeros_like(embedding)
    for token, following in zip((BEGIN, *story), story, strict=False):
        output[following] += 20 / np.sqrt(width) * embedding[token]

    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, name=name, width=width, layers=layers)
    _add_vocabulary(writer, vocabulary)
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    for layer in range(layers):
        for tensor, weights in _layer(random, width).items():
            writer.add_tensor(f"blk.{layer}.{tensor}.weight", weights)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    writer.add_tensor("output.weight", output.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Chain(path=path, story=story)


def _vocabulary() -> list[tuple[str, float, gguf.TokenType]]:
    """Return (piece, score, type) of every token, in SentencePiece's manner.

    That tokenizer merges pairs which are tokens themselves, so every beginning of a word is one too.
    """
    words = [word for word in STORY.split() if word.isascii()]
    pieces: dict[str, None] = {}
    for word in words:
        marked = SPACE + word
        pieces |= dict.fromkeys(marked[:end] for end in range(1, len(marked) + 1))
        pieces |= dict.fromkeys(word)
    return [
        ("<unk>", 0.0, gguf.TokenType.UNKNOWN),
        ("<s>", 0.0, gguf.TokenType.CONTROL),
        ("</s>", 0.0, gguf.TokenType.CONTROL),
        *((f"<0x{byte:02X}>", 0.0, gguf.TokenType.BYTE) for byte in range(256)),
        *((piece, float(len(piece)), gguf.TokenType.NORMAL) for piece in pieces),
    ]


def _story_ids(ids: dict[str, int]) -> list[int]:
    story: list[int] = []
    for word in STORY.split():
        if SPACE + word in ids:
            story.append(ids[SPACE + word])
            continue
        story.append(ids[SPACE])
        for letter in word:
            one = [ids[letter]] if letter in ids else [ids[f"<0x{byte:02X}>"] for byte in letter.encode()]
            story.extend(one)
    return story


def _layer(random: np.random.Generator, width: int) -> dict[str, NDArray[np.floating]]:
    def matrix(rows: int, columns: int) -> NDArray[np.floating]:
        weights = random.standard_normal((rows, columns), dtype=np.float32)
        weights /= np.float32(np.sqrt(columns))
        return weights.astype(np.float16)

    inner = 3 * width
    return {
        "attn_norm": np.ones(width, np.float32),
        "attn_q": matrix(width, width),
        "attn_k": matrix(width, width),
        "attn_v": matrix(width, width),
        "attn_output": np.zeros((width, width), np.float16),
        "ffn_norm": np.ones(width, np.float32),
        "ffn_gate": matrix(inner, width),
        "ffn_up": matrix(inner, width),
        "ffn_down": np.zeros((width, inner), np.float16),
    }


def _add_shape(writer: gguf.GGUFWriter, *, name: str | None, width: int, layers: int) -> None:
    heads = 4
    if name is not None:
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(3 * width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Sequence[tuple[str, float, gguf.TokenType]]) -> None:
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _, _ in vocabulary])
    writer.add_token_scores([score for _, score, _ in vocabulary])
    writer.add_token_types([int(kind) for _, _, kind in vocabulary])
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
