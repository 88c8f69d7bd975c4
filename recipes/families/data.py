"""Data of the families: functions that a recipe names with `kind: factory`.

What scikit-learn bundles needs nothing else. Real sets are read from the folder that the environment variable
EDGEPRESS_DATA names; nothing is copied. Every function is a pure function of its arguments and that folder.
"""

import os
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from edgepress.data.dataset import Dataset
from edgepress.data.sources import open_source
from edgepress.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]


def folder() -> Path:
    """Where the real data is.

    Raises:
        UserError: EDGEPRESS_DATA names no folder.
    """
    found = os.environ.get("EDGEPRESS_DATA", "")
    if not found or not Path(found).is_dir():
        raise UserError("this recipe needs real data", found=f"EDGEPRESS_DATA={found or '(not set)'}",
                        expected="the folder of data sets", fix="export EDGEPRESS_DATA=...")  # fmt: skip
    return Path(found).resolve()


# -- scenes: several digits on one canvas, for segmentation and detection ----------------------------------------------


def segments(split: str, count: int, size: int = 32, classes: int = 4) -> Arrays:
    """Images (N, 1, size, size) and the class of each pixel (N, size, size): 0 is background, digit d is d + 1."""
    images, places = _scenes(split, count, size, classes)
    labels = np.zeros((count, size, size), np.int64)
    for labelled, image, objects in zip(labels, images[:, 0], places, strict=True):
        for label, y, x in objects:
            inside = image[y : y + 8, x : x + 8] > 0.25
            labelled[y : y + 8, x : x + 8][inside] = label + 1
    return images, labels


def scenes(split: str, count: int, size: int = 32, classes: int = 4) -> Arrays:
    """Images (N, 1, size, size) and objects (N, 4, 5): class (-1: none) and corners x1, y1, x2, y2 as shares."""
    images, places = _scenes(split, count, size, classes)
    objects = np.full((count, 4, 5), -1, np.float32)
    for row, found in zip(objects, places, strict=True):
        for slot, (label, y, x) in zip(row, found, strict=False):
            slot[:] = label, x / size, y / size, (x + 8) / size, (y + 8) / size
    return images, objects


def _scenes(split: str, count: int, size: int, classes: int) -> tuple[np.ndarray, list[list[tuple[int, int, int]]]]:
    """Two to four digits of the split per canvas, in different cells of a grid, shifted at random."""
    digits = open_source("digits", {"split": split}, Path())
    assert digits.targets is not None
    wanted = digits.subset((digits.targets < classes).nonzero().flatten())
    assert wanted.targets is not None
    pixels, labels = wanted.inputs[0][:, 0].numpy(), wanted.targets.numpy()
    draw = np.random.default_rng({"train": 1, "test": 2}[split])
    images, places = np.zeros((count, 1, size, size), np.float32), []
    for image in images:
        cells = draw.permutation(4)[: draw.integers(2, 5)]
        places.append([_place(image[0], pixels, labels, int(cell), draw) for cell in cells])
    return images + draw.normal(0, 0.05, images.shape).astype(np.float32), places


def _place(image: np.ndarray, pixels: np.ndarray, labels: np.ndarray, cell: int, draw: np.random.Generator):
    half = len(image) // 2
    which = int(draw.integers(len(labels)))
    y, x = (cell // 2 * half + draw.integers(half - 7), cell % 2 * half + draw.integers(half - 7))
    image[y : y + 8, x : x + 8] = pixels[which]
    return int(labels[which]), int(y), int(x)


CELLS = ("RBC", "WBC", "Platelets")


def blood_cells(split: str, size: int = 128, objects: int = 32) -> Arrays:
    """BCCD: photos (N, 3, size, size) in 0..1 and their cells (N, objects, 5) as in `scenes`; three kinds of cells.

    The archive's own split, 292 photos to train and 72 to test; training has each photo mirrored as well. Photos are
    squeezed to squares; no photo has more than 32 cells.
    """
    home = folder() / "bccd/BCCD"
    names = (home / f"ImageSets/Main/{'trainval' if split == 'train' else 'test'}.txt").read_text().split()
    photos = np.stack([_photo(home / f"JPEGImages/{name}.jpg", size) for name in names])
    cells = np.stack([_cells(home / f"Annotations/{name}.xml", objects) for name in names])
    if split != "train":
        return photos, cells
    mirrored = cells.copy()
    mirrored[..., 1], mirrored[..., 3] = 1 - cells[..., 3], 1 - cells[..., 1]
    return np.concatenate([photos, photos[..., ::-1]]), np.concatenate([cells, mirrored])


def _photo(path: Path, size: int) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255


def _cells(path: Path, objects: int) -> np.ndarray:
    """Class and corners as shares of the photo, -1 in rows that are left."""
    tree = ElementTree.parse(path)
    width, height = (float(tree.findtext(f"size/{side}", "")) for side in ("width", "height"))
    found = []
    for item in tree.iter("object"):
        x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{name}", "")) for name in ("xmin", "ymin", "xmax", "ymax"))
        found.append([CELLS.index(item.findtext("name", "")), x1 / width, y1 / height, x2 / width, y2 / height])
    rows = np.full((objects, 5), -1, np.float32)
    rows[: len(found)] = found
    return rows


# -- control -----------------------------------------------------------------------------------------------------------


def cart_pole(split: str, count: int) -> Arrays:
    """States (N, 4) of a cart with a pole, and the force (N, 1) of a controller that keeps it upright.

    Equations of motion and constants of Barto, Sutton and Anderson 1983; the controller is the linear quadratic
    regulator of the linearised system, limited to 10 N, as a policy to be imitated. States are those that the
    controller meets on its way from random starts, so that neighbours in time are in the same split.
    """
    draw = np.random.default_rng({"train": 3, "test": 4}[split])
    gain = _regulator()
    state = draw.uniform(-1, 1, (count // 50, 4)) * np.array([1.0, 1.0, 0.3, 1.0])
    states, forces = [], []
    for _ in range(50):
        force = np.clip(-state @ gain, -10, 10)
        states.append(state)
        forces.append(force)
        state = _move(state, force + draw.normal(0, 1, force.shape))
    observed = np.concatenate(states).astype(np.float32)
    return observed, (np.concatenate(forces)[:, None] / 10).astype(np.float32)


def _move(state: np.ndarray, force: np.ndarray, step: float = 0.02) -> np.ndarray:
    """One Euler step; state (N, 4) is position, speed, angle, angular speed."""
    _, speed, angle, turn = state.T
    sine, cosine = np.sin(angle), np.cos(angle)
    push = (force + 0.05 * turn**2 * sine) / 1.1
    bend = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    return state + step * np.stack([speed, push - 0.05 * bend * cosine / 1.1, turn, bend], 1)


def _regulator() -> np.ndarray:
    from scipy.linalg import solve_continuous_are

    fall = 9.8 / (0.5 * (4 / 3 - 0.1 / 1.1))
    turn = -1 / 1.1 / (0.5 * (4 / 3 - 0.1 / 1.1))
    a = np.array([[0, 1, 0, 0], [0, 0, -0.05 * fall / 1.1, 0], [0, 0, 0, 1], [0, 0, fall, 0]])
    b = np.array([[0], [1 / 1.1 - 0.05 * turn / 1.1], [0], [turn]])
    solution = solve_continuous_are(a, b, np.diag([1.0, 0.1, 10.0, 0.1]), np.array([[0.1]]))
    return (10.0 * b.T @ solution)[0]


# -- sequences ---------------------------------------------------------------------------------------------------------


def activities(split: str) -> Arrays:
    """UCI HAR: (N, 64, 9) acceleration and rotation at 25 Hz, six activities; test subjects are not in training."""
    with np.load(folder() / "uci_har/har_subset.npz") as archive:
        series, labels = archive[f"x_{split}"], archive[f"y_{split}"].astype(np.int64)
    pairs = series.reshape(len(series), 9, 64, 2).mean(3)
    return np.ascontiguousarray(pairs.transpose(0, 2, 1)), labels - labels.min()


def spoken_digits(split: str, frames: int = 32, bands: int = 20) -> Arrays:
    """FSDD: log energies (N, frames, bands) of ten spoken digits; takes 0 to 4 of each speaker are the test."""
    with np.load(folder() / "fsdd/fsdd.npz") as archive:
        audio, offsets, labels, take = (archive[name] for name in ("audio", "offsets", "label", "index"))
    rows = np.flatnonzero((take < 5) == (split == "test"))
    spectra = [_spectrum(audio[offsets[i] : offsets[i + 1]], frames, bands) for i in rows]
    return np.stack(spectra).astype(np.float32), labels[rows].astype(np.int64)


def _spectrum(audio: np.ndarray, frames: int, bands: int) -> np.ndarray:
    """Log energy in bands of equal width on the mel scale, at `frames` places spread over the recording."""
    window = 256
    padded = np.pad(audio.astype(np.float32) / 32768, (0, max(0, window + frames - len(audio))))
    starts = np.linspace(0, len(padded) - window, frames).astype(int)
    power = np.abs(np.fft.rfft(padded[starts[:, None] + np.arange(window)] * np.hanning(window))) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), bands + 1)
    edges = np.round((10 ** (mel / 2595) - 1) * 700 / 4000 * (window // 2)).astype(int)
    energy = [power[:, low : max(high, low + 1)].sum(1) for low, high in pairwise(edges.tolist())]
    return (np.log(np.stack(energy, 1) + 1e-6) + 4) / 4


def transformer_load(split: str, past: int = 96, horizon: int = 24, stride: int = 24) -> Arrays:
    """ETTh1: the past (N, 7, past) hours and the next `horizon` hours of the oil temperature (N, horizon).

    The usual split in time: 12 months for training, the four from month 16 on for the test; standardized by training.
    """
    table = np.genfromtxt(folder() / "ett/ETTh1.csv", delimiter=",", skip_header=1, usecols=range(1, 8))
    month = 30 * 24
    low, high = {"train": (0, 12 * month), "test": (16 * month, 20 * month)}[split]
    scaled = (table - table[: 12 * month].mean(0)) / table[: 12 * month].std(0)
    starts = range(low, high - past - horizon, stride)
    series = np.stack([scaled[i : i + past].T for i in starts])
    return series.astype(np.float32), np.stack([scaled[i + past : i + past + horizon, 6] for i in starts])


def heartbeats(split: str) -> Arrays:
    """ECG5000: heartbeats (N, 140) and whether each is abnormal; training has normal ones only.

    The archive's training part is small (500): the test part's first 1,000 normal beats join it.
    """
    with np.load(folder() / "ucr/ECG5000.npz") as archive:
        beats, kinds = archive["x_test"], archive["y_test"]
        usual = np.bincount(kinds).argmax()
        normal = kinds == usual
        early = normal & (np.cumsum(normal) <= 1000)
        own = archive["x_train"][archive["y_train"] == usual]
    if split == "train":
        return np.concatenate([own, beats[early]]), np.zeros(len(own) + int(early.sum()), np.int64)
    return beats[~early], (~normal[~early]).astype(np.int64)


# -- tables, text, images, graphs --------------------------------------------------------------------------------------


def adult() -> Dataset:
    """UCI Adult: 32,561 people, one-hot and standardized, and whether they earn more than 50,000 dollars."""
    options = {"path": "tabular/adult_b.data", "target": "Salary", "drop": ["fnlwgt"], "standardize": True}
    return open_source("csv", options, folder())


def questions(split: str, length: int = 16, words: int = 3000) -> Dataset:
    """TREC: token numbers (N, length) of questions, six kinds of answers."""
    options = {"path": f"text/trec/TREC.{split}.all", "vocabulary_from": "text/trec/TREC.train.all", "label": "first"}
    return open_source("text_lines", {**options, "length": length, "vocabulary_size": words}, folder())


def shakespeare(length: int = 64) -> Dataset:
    """Tiny Shakespeare in windows of characters; the target of each is the next."""
    options = {"path": "text/tinyshakespeare/input.txt", "tokens": "characters", "language": True, "length": length}
    return open_source("text_lines", options, folder())


def clothes(split: str) -> Dataset:
    """Fashion-MNIST (N, 1, 28, 28) in 0..1."""
    name = {"train": "train", "test": "t10k"}[split]
    files = {
        "images": f"fashion_mnist/{name}-images-idx3-ubyte.gz",
        "labels": f"fashion_mnist/{name}-labels-idx1-ubyte.gz",
    }
    return open_source("idx", {**files, "scale": 1 / 255}, folder())


def cifar(split: str) -> Arrays:
    """CIFAR-10 without loss, (N, 3, 32, 32) in 0..255: 4,000 for training, the first 1,000 of the official test."""
    with np.load(folder() / f"cifar10/{split}.npz") as archive:
        rows = slice(1000 if split == "test" else None)
        return archive["images"][rows], archive["labels"][rows].astype(np.int64)


def citations(split: str, nodes: int = 16) -> tuple[list[torch.Tensor], np.ndarray]:
    """Cora: for each paper its neighbourhood, (N, nodes, 1433) words and (N, nodes, nodes) links, and its topic.

    The paper itself is node 0, then neighbours, then theirs, until `nodes` are reached; the adjacency is normalized as
    by Kipf and Welling 2017, eq. 2. Public split: 140 training and 500 validation papers to train, 1,000 to test.
    """
    with np.load(folder() / "graph/cora.npz") as archive:
        words = np.zeros(tuple(archive["shape"]), np.float32)
        words[archive["feat_row"], archive["feat_col"]] = archive["feat_val"]
        links: list[set[int]] = [set() for _ in words]
        for a, b in archive["edges"].tolist():
            links[a].add(b)
            links[b].add(a)
        parts = {"train": ("train_idx", "val_idx"), "test": ("test_idx",)}[split]
        rows = np.concatenate([archive[part] for part in parts])
        labels = archive["labels"][rows].astype(np.int64)
    words /= np.maximum(words.sum(1, keepdims=True), 1)
    features = torch.zeros(len(rows), nodes, words.shape[1])
    adjacency = torch.zeros(len(rows), nodes, nodes)
    for i, row in enumerate(rows.tolist()):
        around = _around(links, row, nodes)
        features[i, : len(around)] = torch.from_numpy(words[around])
        adjacency[i, : len(around), : len(around)] = _normalized(links, around)
    return [features, adjacency], labels


def _around(links: list[set[int]], start: int, limit: int) -> list[int]:
    found = [start]
    for node in found:
        found += [n for n in sorted(links[node]) if n not in found][: limit - len(found)]
        if len(found) == limit:
            break
    return found


def _normalized(links: list[set[int]], around: list[int]) -> torch.Tensor:
    """D^-1/2 (A + I) D^-1/2 of the subgraph."""
    joined = torch.tensor([[float(a == b or b in links[a]) for b in around] for a in around])
    scale = joined.sum(1).rsqrt()
    return scale[:, None] * joined * scale
