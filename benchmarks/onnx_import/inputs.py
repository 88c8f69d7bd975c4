"""Inputs as the networks of the ONNX files meet them in use: photos, digits, sound, bytes.

They come from the folder that EDGEPRESS_DATA names. A file that is not in the table, or no such folder: numbers from a
standard normal distribution, which calibrate ranges that are too small for some networks and too large for others.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

Array = np.ndarray
Maker = Callable[[str, tuple[int, ...], int], Array]
"""(name of the input, shape, seed) -> one sample."""
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


def real_input(stem: str, name: str, shape: tuple[int, ...], seed: int) -> Array | None:
    """One sample of an input of the network in `stem`.onnx, or None where nothing real is at hand."""
    maker = next((make for start, make in MAKERS.items() if stem.startswith(start)), None)
    return maker(name, shape, seed) if maker and folder() else None


@cache
def folder() -> Path | None:
    """The folder of real data, if there is one."""
    found = Path(os.environ.get("EDGEPRESS_DATA", "") or "/nonexistent")
    return found.resolve() if found.is_dir() else None


# -- photos ------------------------------------------------------------------------------------------------------------


def photo(
    scale: float, mean: Array | float = 0.0, std: Array | float = 1.0
) -> Callable[[str, tuple[int, ...], int], Array]:
    """A photo's random crop (1, 3, H, W), or (1, H, W, 3): (pixel * scale - mean) / std."""

    def make(name: str, shape: tuple[int, ...], seed: int) -> Array:
        last = shape[-1] == 3
        height, width = shape[1:3] if last else shape[2:4]
        pixels = (_crop(int(height), int(width), seed) * scale - mean) / std
        return (pixels if last else pixels.transpose(2, 0, 1))[None].astype(np.float32)

    return make


def _crop(height: int, width: int, seed: int) -> Array:
    from PIL import Image

    paths = _photos()
    draw = np.random.default_rng(seed)
    with Image.open(paths[seed % len(paths)]) as image:
        image = image.convert("RGB")
        size = int(draw.uniform(0.6, 1.0) * min(image.size))
        left, top = (int(draw.integers(side - size + 1)) for side in image.size)
        return np.asarray(image.crop((left, top, left + size, top + size)).resize((width, height)), np.float64)


@cache
def _photos() -> list[Path]:
    home = folder()
    assert home is not None
    own = sorted(p for p in (home / "sample_images").iterdir() if p.suffix in (".png", ".jpg"))
    return [*own, *sorted((home / "bccd/BCCD/JPEGImages").glob("*.jpg"))[:8]]


def digit(scale: float) -> Maker:
    """A picture of clothes, 28 x 28, in whatever shape holds as many numbers."""

    def make(name: str, shape: tuple[int, ...], seed: int) -> Array:
        return (_clothes()[seed % 256].astype(np.float32) * scale).reshape(shape)

    return make


@cache
def _clothes() -> Array:
    import gzip

    home = folder()
    assert home is not None
    with gzip.open(home / "fashion_mnist/t10k-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(16 + 784 * 256), np.uint8, offset=16).reshape(-1, 28, 28)


# -- sound -------------------------------------------------------------------------------------------------------------


@cache
def _speech() -> Array:
    import wave

    home = folder()
    assert home is not None
    with wave.open(str(home / "speech_enhancement/test_wavs_mix.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def _piece(samples: int, seed: int) -> Array:
    """Noisy speech at 16 kHz, repeated where it is too short."""
    speech = np.resize(_speech(), max(len(_speech()), samples + 1))
    start = int(np.random.default_rng(seed).integers(len(speech) - samples))
    return speech[start : start + samples]


def waveform(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """Samples; zeros for a state."""
    return np.zeros(shape, np.float32) if "state" in name else _piece(int(np.prod(shape)), seed).reshape(shape)


def spectrum(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """A frame of 512 samples as magnitudes (..., 257), or as real and imaginary parts (..., 257, 1, 2); zero states."""
    if 257 not in shape:
        return np.zeros(shape, np.float32)
    bins = np.fft.rfft(_piece(512, seed) * np.hanning(512) ** 0.5)
    parts = np.stack([bins.real, bins.imag], -1) if shape[-1] == 2 else np.abs(bins)
    return parts.reshape(shape).astype(np.float32)


def log_bands(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """Frames x bands of log energies, in the range that melspectrogram / 10 + 2 has."""
    frames, bands = shape[1:3]
    sound = _piece(400 + 160 * int(frames), seed)
    places = 160 * np.arange(frames)[:, None] + np.arange(400)
    power = np.abs(np.fft.rfft(sound[places] * np.hanning(400))[:, : bands * 6]) ** 2
    energies = power.reshape(frames, bands, 6).sum(2)
    return (np.log10(energies + 1e-6) + 2).reshape(shape).astype(np.float32)


def file_bytes(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """The first bytes of a source file of this project, not of an environment beside it; 256 fills the rest."""
    sources = (Path(__file__).resolve().parents[2] / "src").rglob("*.py")
    paths = sorted(path for path in sources if path.stat().st_size >= shape[1])  # not of padding alone
    content = np.frombuffer(paths[seed * 7 % len(paths)].read_bytes()[: shape[1]], np.uint8)
    return np.pad(content.astype(np.int32), (0, shape[1] - len(content)), constant_values=256)[None]


MAKERS: dict[str, Maker] = {
    "FastestDet": photo(1 / 255),
    "TFC": digit(1 / 255),
    "basic_pitch": waveform,
    "bodypix": photo(1 / 127.5, 1.0),
    "dtln": spectrum,
    "gtcrn": spectrum,
    "kai_jiang": photo(1 / 255),
    "magika": file_bytes,
    "mnist_cntk": digit(1.0),
    "mnist_gru": digit(1 / 255),
    "oww": log_bands,
    "ppocr": photo(1 / 255, 0.5, 0.5),
    "prisma": photo(1 / 255, *IMAGENET),
    "silero": waveform,
    "squeezenet": photo(1 / 255, *IMAGENET),
    "style": photo(1.0),
    "ultraface": photo(1 / 128, 127 / 128),
    "yolox": photo(1.0),
    "yunet": photo(1.0),
}
