"""The data functions of the families: shapes, seeds, and that training and test do not meet."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[2] / "recipes" / "families" / "data.py"


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("families_data", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_objects_lie_where_their_pixels_are(data: ModuleType) -> None:
    images, objects = data.scenes("train", 20)
    for image, found in zip(images[:, 0], objects, strict=True):
        present = found[found[:, 0] >= 0]
        assert 2 <= len(present) <= 4
        outside = image.copy()
        for _, x1, y1, x2, y2 in present:
            box = tuple(round(float(v) * 32) for v in (y1, y2, x1, x2))
            assert image[box[0] : box[1], box[2] : box[3]].max() > 0.5
            outside[box[0] : box[1], box[2] : box[3]] = 0
        assert outside.max() < 0.5, "nothing but noise outside the boxes"


def test_segments_and_scenes_show_the_same_images(data: ModuleType) -> None:
    images, labels = data.segments("test", 10)
    same, objects = data.scenes("test", 10)
    assert np.array_equal(images, same)
    for labelled, found in zip(labels, objects, strict=True):
        assert set(np.unique(labelled)) - {0} == {int(c) + 1 for c in found[:, 0] if c >= 0}


def test_equal_arguments_give_equal_data(data: ModuleType) -> None:
    assert all(
        np.array_equal(a, b) for a, b in zip(data.cart_pole("train", 200), data.cart_pole("train", 200), strict=True)
    )


def test_the_controller_brings_the_pole_up(data: ModuleType) -> None:
    states, _ = data.cart_pole("test", 5000)
    angle = np.abs(states.reshape(50, -1, 4)[:, :, 2])
    assert np.median(angle[-1]) < 0.5 * np.median(angle[0])


@pytest.mark.data
def test_neighbourhoods_begin_with_the_paper_itself(data: ModuleType, data_dir: Path) -> None:
    (features, adjacency), labels = data.citations("test", 8)
    assert features.shape == (1000, 8, 1433) and adjacency.shape == (1000, 8, 8) and labels.max() == 6
    assert bool((adjacency[:, 0, 0] > 0).all())
    assert bool((adjacency == adjacency.transpose(1, 2)).all())


@pytest.mark.data
def test_no_abnormal_beat_in_training(data: ModuleType, data_dir: Path) -> None:
    train, test = data.heartbeats("train"), data.heartbeats("test")
    assert train[1].max() == 0 and 0 < test[1].mean() < 1
    known = {row.tobytes() for row in train[0]}
    assert not any(row.tobytes() in known for row in test[0])


@pytest.mark.data
def test_blood_cells_lie_inside_their_photos_and_mirror_with_them(data: ModuleType, data_dir: Path) -> None:
    photos, cells = data.blood_cells("train", size=32)
    count = len(photos) // 2
    assert count == 292 and cells.shape == (2 * count, 32, 5)
    present = cells[..., 0] >= 0
    assert (cells[present][:, 3:] > cells[present][:, 1:3]).mean() > 0.999  # one box of the archive is empty
    assert cells[present][:, 1:].min() >= 0 and cells[present][:, 1:].max() <= 1
    assert np.array_equal(photos[count:], photos[:count, :, :, ::-1])
    widths = cells[..., 3] - cells[..., 1]
    assert np.allclose(widths[count:], widths[:count], atol=1e-6)
