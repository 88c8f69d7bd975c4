"""Sensible inputs for the ONNX files of the data folder: photos, digits, speech, text, simulated observations."""

import wave
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from networks import DATA
from PIL import Image

Array = np.ndarray
Feed = dict[str, Array]
FRAME = 512  # samples of the speech networks' Fourier transforms


@cache
def photo(name: str) -> Image.Image:
    return Image.open(DATA / "sample_images" / name).convert("RGB")


def crop(names: tuple[str, ...], index: int, width: int, height: int) -> Array:
    """A photo, or from the second round on a part of one, mirrored every other time: uint8 (height, width, 3)."""
    image, rng = photo(names[index % len(names)]), np.random.default_rng(index)
    if index >= len(names):
        share = rng.uniform(0.5, 0.9)
        w, h = int(image.width * share), int(image.height * share)
        left, top = (int(rng.integers(0, room + 1)) for room in (image.width - w, image.height - h))
        image = image.crop((left, top, left + w, top + h))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return pixels[:, ::-1] if index % 2 else pixels


STREETS = ("street0.jpg", "street1.jpg", "street4.jpg", "person.jpg", "multiface.jpg")
FACES = ("multiface.jpg", "1face.png", "4faces.png", "person.jpg")


def pixels(
    name: str, width: int, height: int, *, mean: float = 0.0, scale: float = 1.0, bgr: bool = False,
    photos: tuple[str, ...] = STREETS, last: bool = False,
) -> Callable[[int], Feed]:  # fmt: skip
    """(pixel - mean) / scale as (1, 3, height, width), or (1, height, width, 3) with `last`."""

    def make(index: int) -> Feed:
        image = crop(photos, index, width, height).astype(np.float32)
        image = (image[:, :, ::-1] if bgr else image) - mean
        image = image / scale
        return {name: np.ascontiguousarray((image if last else image.transpose(2, 0, 1))[None], np.float32)}

    return make


@cache
def digits() -> Array:
    """Pictures of 28 x 28 grey values 0..255: clothes, which have the statistics that digits have not lost."""
    import gzip

    raw = gzip.decompress((DATA / "fashion_mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)


def clothes(name: str, shape: tuple[int, ...], *, scale: float, mean: float = 0.0) -> Callable[[int], Feed]:
    return lambda index: {name: ((digits()[index].astype(np.float32) / scale) - mean).reshape(shape)}


@cache
def speech() -> Array:
    """Ten seconds of noisy speech at 16 kHz, -1..1."""
    with wave.open(str(DATA / "speech_enhancement" / "test_wavs_mix.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def piece(index: int, length: int) -> Array:
    """A stretch of speech; longer ones wrap around."""
    start = 8000 + index * 3001
    return np.take(speech(), np.arange(start, start + length), mode="wrap")


def spectrum(index: int) -> Array:
    return np.fft.rfft(piece(index, FRAME) * np.sqrt(np.hanning(FRAME)))


def normal(index: int, *shape: int) -> Array:
    return np.random.default_rng(index).normal(size=shape).astype(np.float32)


def silero(index: int) -> Feed:
    return {"input": piece(index, 512)[None], "state": normal(index, 2, 1, 128) * 0.3, "sr": np.array(16000)}


def dtln(index: int) -> Feed:
    magnitude = np.abs(spectrum(index)).astype(np.float32)
    return {"input_2": magnitude.reshape(1, 1, 257), "input_3": normal(index, 1, 2, 128, 2) * 0.3}


def gtcrn(index: int) -> Feed:
    s = spectrum(index)
    mix = np.stack([s.real, s.imag], -1).astype(np.float32).reshape(1, 257, 1, 2)
    caches = {"conv_cache": (2, 1, 16, 16, 33), "tra_cache": (2, 3, 1, 1, 16), "inter_cache": (2, 1, 33, 16)}
    return {"mix": mix} | {name: normal(index, *shape) * 0.3 for name, shape in caches.items()}


def log_mel(index: int) -> Feed:
    """Something like the log spectrogram that openWakeWord feeds: 76 frames of 32 bands."""
    sound = piece(index, 76 * 160 + FRAME)
    frames = np.stack([np.abs(np.fft.rfft(sound[i * 160 : i * 160 + FRAME])) ** 2 for i in range(76)])
    bands = np.stack([b.sum(1) for b in np.array_split(frames[:, 1:], 32, axis=1)], 1)
    return {"input_1": (np.log10(bands + 1e-6) / 2 + 2).astype(np.float32).reshape(1, 76, 32, 1)}


@cache
def texts() -> list[bytes]:
    paths = sorted(p for p in (*(DATA / "text").rglob("*"), *DATA.glob("*.py"), *DATA.glob("*.md")) if p.is_file())
    return [p.read_bytes() for p in paths]


def some_bytes(index: int) -> Feed:
    content = texts()[index % len(texts())]
    start = (index * 1013) % max(1, len(content) - 4096)
    return {"bytes": np.frombuffer(content[start : start + 2048].ljust(2048, b"\0"), np.uint8).astype(np.int32)[None]}


def hallway(index: int) -> Feed:
    sizes = {"obs_0": 105, "obs_1": 3}
    feed = {name: np.abs(normal(index, 1, size)) for name, size in sizes.items()}
    return feed | {"action_masks": np.ones((1, 5), np.float32), "recurrent_in": normal(index, 1, 1, 128) * 0.3}


def sorter(index: int) -> Feed:
    feed = {"obs_0": np.abs(normal(index, 1, 20, 23)), "obs_1": normal(index, 1, 10), "obs_2": normal(index, 1, 8)}
    return feed | {"action_masks": np.ones((1, 9), np.float32)}


INPUTS: Mapping[str, Callable[[int], Feed]] = {
    "FastestDet": pixels("input.1", 352, 352, scale=255, bgr=True),
    "TFC_2W2A": clothes("0", (1, 1, 28, 28), scale=127.5, mean=1.0),
    "basic_pitch_nmp": lambda i: {"serving_default_input_2:0": piece(i, 43844).reshape(1, -1, 1)},
    "bodypix_mbv1_050_s16": pixels("input", 224, 224, mean=127.5, scale=127.5, last=True, photos=FACES),
    "dtln_model_1": dtln,
    "go1_policy": lambda i: {"obs": normal(i, 1, 48)},
    "gtcrn_simple": gtcrn,
    "magika_standard_v3_3": some_bytes,
    "mlagents_Hallway": hallway,
    "mlagents_Sorter": sorter,
    "mnist_cntk": clothes("Input3", (1, 1, 28, 28), scale=1.0),
    "mnist_gru": clothes("input.1", (1, 28, 28), scale=255.0),
    "oww_embedding_model": log_mel,
    "ppocr_mobile_v2_cls": pixels("x", 224, 224, mean=127.5, scale=127.5, bgr=True, photos=("ocr_sample.jpg",)),
    "prisma_portrait": pixels("input_3", 256, 256, mean=116.0, scale=255, photos=FACES),
    "silero_vad_16k_op15": silero,
    "silero_vad_op18_ifless": silero,
    "squeezenet_fp16": pixels("data_0", 224, 224, mean=117.0, scale=58.0),
    "style_candy": pixels("inputImage", 720, 720),
    "ultraface_slim_320": pixels("input", 320, 240, mean=127.0, scale=128.0, photos=FACES),
    "yolox_nano": pixels("images", 416, 416, bgr=True),
    "yunet_n_320": pixels("input", 320, 320, bgr=True, photos=FACES),
}  # fmt: skip
"""Stem of the file -> one set of inputs by number."""


def feeds(path: Path, first: int, count: int) -> list[Feed]:
    """`count` sets of inputs, from number `first` on."""
    return [INPUTS[path.stem](index) for index in range(first, first + count)]
