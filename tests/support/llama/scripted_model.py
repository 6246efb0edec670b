r"""Write a GGUF model that says exactly what a script says; it never starts a server.

llama-server needs a model, and a test needs to know what the model will say. The model written
here is a lookup table: for each token it holds the one token that comes next.

How a table becomes a transformer of architecture ``llama``:

* A token's embedding is one-hot: row ``t`` of ``token_embd`` is 1 in column ``t``.
* The one block changes nothing: its attention and feed-forward weights are zero, and a block
  *adds* its result to the embedding.
* The norm before the output only rescales the one-hot vector, to length ``sqrt(width)``.
* So the score of token ``n`` after token ``t`` is ``output[n, t]`` times ``sqrt(width)``: the
  output matrix *is* the table. One entry per column is set, all others are zero, and the gap is
  so wide that every temperature a client may send picks the same token.

The vocabulary is a byte-level one: 256 tokens for single bytes, then one token per piece of a
script, then the special tokens. Prompts are read byte by byte, because the merges that would join
bytes into pieces are left out; only a reply uses the pieces. A model that ``reads_pieces`` has
those merges, one byte at a time from the left: it reads its own words as it says them, and so goes
on with an answer that a prompt ends in. Each of its pieces has to be one word, with the space
before it.

A table knows nothing but the token before, so each piece may occur once in a model, and what is
said depends on the *last token of the prompt* alone. That is a newline in the usual chat
template (``<|im_start|>assistant\n``). A template may end in a special token of its own instead,
a cue, and each cue has a script: this is how one model first calls a tool and then, when the last
message is a tool result, gives the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

Piece = str | bytes
"""One token of a reply. ``bytes`` can hold a part of a character, as real vocabularies do."""

CHATML = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_TURN_START, _TURN_END = "<|im_start|>", "<|im_end|>"

# Any score that leaves no doubt after softmax will do; the others are 0.
_CERTAIN = 50.0

# Width of the attention head and of the feed-forward layer: all zeros, so as small as is usual.
_IDLE = 8


def write_scripted_model(
    path: str | Path,
    script: Sequence[Piece],
    *,
    on_cue: Mapping[str, Sequence[Piece]] | None = None,
    chat_template: str = CHATML,
    context: int = 16384,
    reads_pieces: bool = False,
) -> None:
    """Write a GGUF whose decode says ``script``, or the script of the cue the prompt ends in.

    ``on_cue`` maps special tokens such as ``<|after_tool|>``, which ``chat_template`` may print
    at the end of the generation prompt, to scripts. An empty script is an empty reply.
    """
    cues = dict(on_cue or {})
    pieces = [_encode(piece) for one in (script, *cues.values()) for piece in one]
    _check(pieces, cues)
    special = [_TURN_START, _TURN_END, *cues]
    words = list(map(_spell, pieces))
    begun = _beginnings(words) if reads_pieces else []
    vocabulary = [*_SPELLINGS, *begun, *words, *special]
    token = {text: number for number, text in enumerate(vocabulary)}

    end = token[_TURN_END]
    follows = [end] * len(vocabulary)  # a token no script mentions ends the turn: no babble
    for cue, one in {_spell(b"\n"): script, **cues}.items():
        spoken = [token[_spell(_encode(piece))] for piece in one]
        for before, after in pairwise([token[cue], *spoken, end]):
            follows[before] = after

    # A vocabulary without merges is refused. This one joins two bytes that UTF-8 never holds.
    merges = [f"{word[:-1]} {word[-1]}" for word in (*begun, *words)] if reads_pieces else ["ÿ ÿ"]
    _write(path, vocabulary, len(special), follows, end, chat_template, context, merges)


def _beginnings(words: Sequence[str]) -> list[str]:
    """What a word is while its bytes are joined from the left, shortest first."""
    begun = {word[:length] for word in words for length in range(2, len(word))}
    return sorted(begun - set(words), key=lambda each: (len(each), each))


def _encode(piece: Piece) -> bytes:
    return piece.encode() if isinstance(piece, str) else piece


def _check(pieces: Sequence[bytes], cues: Mapping[str, object]) -> None:
    seen: set[bytes] = set()
    for piece in pieces:
        if len(piece) < 2:
            raise ValueError(f"a piece must be longer than one byte, unlike {piece!r}")
        if piece in seen:
            raise ValueError(f"a piece may occur only once in a model: {piece!r}")
        seen.add(piece)
    for cue in cues:
        if cue in (_TURN_START, _TURN_END) or not (cue.startswith("<|") and cue.endswith("|>")):
            raise ValueError(f"a cue must be a special token of its own, like <|cue|>: {cue!r}")


def _spellings() -> list[str]:
    """How byte-level vocabularies (GPT-2 and after) spell the bytes 0 to 255.

    Bytes that are printable Latin-1 stand for themselves; the others, space and newline among
    them, borrow the characters from U+0100 on, so that no token contains white space.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    borrowed = iter(range(256, 512))
    return [chr(byte if byte in printable else next(borrowed)) for byte in range(256)]


_SPELLINGS = _spellings()


def _spell(piece: bytes) -> str:
    r"""A piece as the vocabulary writes it.

    >>> _spell("the café\n".encode())
    'theĠcafÃ©Ċ'
    """
    return "".join(_SPELLINGS[byte] for byte in piece)


def _write(
    path: str | Path,
    vocabulary: Sequence[str],
    special: int,
    follows: Sequence[int],
    end: int,
    chat_template: str,
    context: int,
    merges: Sequence[str],
) -> None:
    # Imported late: both exist only where the server does, and pytest imports this module anyway.
    import numpy as np
    from gguf import GGUFWriter, TokenType

    width = len(vocabulary)  # one-hot: as many columns as tokens

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)

    table = zeros(width, width)
    table[list(follows), np.arange(width)] = _CERTAIN
    ones = np.ones(width, dtype=np.float32)

    writer = GGUFWriter(path, "llama")
    writer.add_name("scripted")
    writer.add_context_length(context)
    writer.add_vocab_size(width)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    # Said outright, or the head would be as wide as the vocabulary, and so would the KV cache.
    writer.add_key_length(_IDLE)
    writer.add_value_length(_IDLE)
    writer.add_rope_dimension_count(_IDLE)
    writer.add_feed_forward_length(_IDLE)
    writer.add_layer_norm_rms_eps(1e-6)

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(vocabulary))
    normal = [TokenType.NORMAL] * (width - special)
    writer.add_token_types([*normal, *[TokenType.CONTROL] * special])
    writer.add_token_merges(list(merges))
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat_template)

    tensors = {
        "token_embd": np.eye(width, dtype=np.float32),
        "blk.0.attn_norm": ones,
        "blk.0.attn_q": zeros(_IDLE, width),
        "blk.0.attn_k": zeros(_IDLE, width),
        "blk.0.attn_v": zeros(_IDLE, width),
        "blk.0.attn_output": zeros(width, _IDLE),
        "blk.0.ffn_norm": ones,
        "blk.0.ffn_gate": zeros(_IDLE, width),
        "blk.0.ffn_up": zeros(_IDLE, width),
        "blk.0.ffn_down": zeros(width, _IDLE),
        "output_norm": ones,
        "output": table,
    }
    for name, weights in tensors.items():
        writer.add_tensor(f"{name}.weight", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
