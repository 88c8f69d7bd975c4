"""Lines of text as rows of token numbers, and running text as windows for language models."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edgepress.data.arrays import existing
from edgepress.data.dataset import Dataset
from edgepress.errors import UserError

PAD, UNKNOWN, FIRST_WORD = 0, 1, 2


def text_lines(
    base: Path,
    *,
    path: str,
    length: int,
    tokens: str = "words",
    vocabulary_from: str | None = None,
    vocabulary_size: int = 10_000,
    label: str | None = None,
    header: bool = False,
    language: bool = False,
) -> Dataset:
    """Token numbers int64 (N, length), padded with 0.

    Args:
        tokens: "words" (lower case, split at spaces: 0 pads, 1 is unknown, then by falling frequency), "bytes"
            (byte + 1) or "characters" (sorted by code point, numbered from 2).
        vocabulary_from: file whose words or characters are numbered; the file itself unless given. For a separate
            test file, name the training file.
        label: where a line holds its class: "first" (before the first space) or "last" (after the last tab).
        header: skip the first line. language: cut the whole text into windows; the target of each token is the next.

    Raises:
        UserError: no such file, an empty one, unknown settings, labels missing or never seen in `vocabulary_from`.
    """
    file = existing(base / path)
    reference = existing(base / vocabulary_from) if vocabulary_from else file
    if language:
        return _windows(file, reference, length, tokens)
    lines, labels = _split_labels(_lines(file, header), label, file)
    known_lines, known_labels = _split_labels(_lines(reference, header), label, reference)
    number = _numbering(tokens, known_lines, vocabulary_size)
    rows = torch.zeros(len(lines), length, dtype=torch.int64)
    for i, line in enumerate(lines):
        numbers = number(line)[:length]
        rows[i, : len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
    classes = tuple(sorted(set(known_labels)))
    return Dataset((rows,), _label_tensor(labels, classes, file), classes, file.name)


def _lines(file: Path, header: bool) -> list[str]:
    lines = [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if len(lines) <= header:
        raise UserError(f"{file} holds no lines", found="nothing", expected="one sample per line")
    return lines[header:]


def _split_labels(lines: list[str], label: str | None, file: Path) -> tuple[list[str], list[str]]:
    if label is None:
        return lines, []
    if label == "first":
        parts = [line.split(maxsplit=1) for line in lines]
    elif label == "last":
        parts = [line.rsplit("\t", maxsplit=1)[::-1] for line in lines]
    else:
        raise UserError("unknown place of the label", found=label, expected="first or last")
    short = next((i for i, p in enumerate(parts) if len(p) != 2), None)
    if short is not None:
        raise UserError(f"line {short + 1} of {file} has no label", found=lines[short][:60], expected=f"label {label}")
    return [p[1] for p in parts], [p[0].strip() for p in parts]


def _label_tensor(labels: list[str], classes: tuple[str, ...], file: Path) -> torch.Tensor | None:
    if not labels:
        return None
    index = {name: i for i, name in enumerate(classes)}
    unknown = next((name for name in labels if name not in index), None)
    if unknown is not None:
        raise UserError(f"{file} holds a label never seen in training", found=unknown, expected=", ".join(classes[:8]))
    return torch.tensor([index[name] for name in labels])


def _numbering(tokens: str, lines: Sequence[str], size: int) -> Callable[[str], list[int]]:
    if tokens == "bytes":
        return lambda line: [byte + 1 for byte in line.encode()]
    if tokens == "words":
        index = _word_index(lines, size)
        return lambda line: [index.get(word, UNKNOWN) for word in line.lower().split()]
    if tokens == "characters":
        characters = {c: i + FIRST_WORD for i, c in enumerate(sorted(set("".join(lines))))}
        return lambda line: [characters.get(c, UNKNOWN) for c in line]
    raise UserError("unknown kind of tokens", found=tokens, expected="words, bytes or characters")


def _word_index(lines: Sequence[str], size: int) -> dict[str, int]:
    """The most frequent words, numbered from 2; ties in alphabetical order, so the numbering is stable."""
    counts = Counter(word for line in lines for word in line.lower().split())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: size - FIRST_WORD]
    return {word: i + FIRST_WORD for i, word in enumerate(ranked)}


def _windows(file: Path, reference: Path, length: int, tokens: str) -> Dataset:
    """Inputs (N, length) and the tokens that follow each position, from consecutive stretches of the text."""
    content = file.read_text(encoding="utf-8", errors="replace")
    number = _numbering(tokens, [reference.read_text(encoding="utf-8", errors="replace")], 1 << 30)
    stream = torch.tensor(number(content), dtype=torch.int64)
    count = (len(stream) - 1) // length
    if count < 1:
        raise UserError(f"{file} is shorter than a window", found=f"{len(stream)} tokens", expected=f"over {length}")
    inputs = stream[: count * length].view(count, length)
    return Dataset((inputs,), stream[1 : count * length + 1].view(count, length).clone(), (), file.name)
