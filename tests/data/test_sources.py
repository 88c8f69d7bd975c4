"""Each kind of data, whole and broken."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.data import Dataset, open_source
from edgepress.errors import UserError


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (10, 3, 4, 4), dtype=np.uint8), np.arange(10, dtype=np.uint8) % 2


def test_npz(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = arrays
    np.savez(tmp_path / "d.npz", images=images, labels=labels)
    data = open_source("npz", {"path": "d.npz", "scale": 1 / 255}, tmp_path)
    assert data.inputs[0].dtype == torch.float32
    assert data.targets is not None
    assert data.targets.dtype == torch.int64
    np.testing.assert_allclose(data.inputs[0].numpy(), images / 255, atol=1e-6)


def test_npz_with_slices(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = arrays
    speakers = np.array(["ann", "bob"] * 5)
    np.savez(tmp_path / "d.npz", images=images, labels=labels, speaker=speakers, night=labels > 0)
    data = open_source("npz", {"path": "d.npz", "slices": ("speaker", "night")}, tmp_path)
    assert data.slices["speaker"] == ("ann", "bob") * 5 and data.slices["night"] == ("False", "True") * 5
    assert data.subset([3, 0]).slices["speaker"] == ("bob", "ann")


def test_npz_with_slices_of_another_length(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez(tmp_path / "d.npz", images=arrays[0], labels=arrays[1], speaker=np.array(["ann"]))
    with pytest.raises(UserError, match="not usable"):
        open_source("npz", {"path": "d.npz", "slices": ("speaker",)}, tmp_path)


def test_npz_with_a_wrong_name_lists_the_right_ones(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez(tmp_path / "d.npz", x=arrays[0], y=arrays[1])
    with pytest.raises(UserError, match="no array images") as caught:
        open_source("npz", {"path": "d.npz"}, tmp_path)
    assert "x, y" in caught.value.found


def test_npz_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.array([{}], dtype=object), labels=np.zeros(1))
    with pytest.raises(UserError, match="cannot read"):
        open_source("npz", {"path": "d.npz"}, tmp_path)


def test_a_truncated_npz(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez(tmp_path / "d.npz", images=arrays[0], labels=arrays[1])
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot read"):
        open_source("npz", {"path": "d.npz"}, tmp_path)


def test_missing_files_and_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data at"):
        open_source("npz", {"path": "none.npz"}, tmp_path)
    with pytest.raises(UserError, match="wrong options") as caught:
        open_source("npz", {"pth": "d.npz"}, tmp_path)
    assert caught.value.found == "unknown pth; path is missing"
    with pytest.raises(UserError, match="unknown kind of data 'parquet'"):
        open_source("parquet", {}, tmp_path)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", [".idx", ".gz"])
def test_idx(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray], suffix: str) -> None:
    images, labels = arrays
    write_idx(tmp_path / f"images{suffix}", images[:, 0])
    write_idx(tmp_path / f"labels{suffix}", labels)
    data = open_source("idx", {"images": f"images{suffix}", "labels": f"labels{suffix}"}, tmp_path)
    assert data.inputs[0].shape == (10, 1, 4, 4)
    np.testing.assert_array_equal(data.inputs[0][:, 0].numpy(), images[:, 0])


def test_idx_whose_header_lies(tmp_path: Path) -> None:
    (tmp_path / "i.idx").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1 << 31, 1 << 31, 4) + b"1234")
    with pytest.raises(UserError, match="no IDX file"):
        open_source("idx", {"images": "i.idx"}, tmp_path)


def test_csv_encodes_text_like_the_training_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("age,colour,label\n1,red,yes\n2,blue,no\n3,red,no\n")
    (tmp_path / "test.csv").write_text("age,colour,label\n2,red,yes\n")
    options = {"target": "label", "standardize": True}
    train = open_source("csv", {"path": "train.csv", **options}, tmp_path)
    test = open_source("csv", {"path": "test.csv", "encode_like": "train.csv", **options}, tmp_path)
    assert train.classes == test.classes == ("no", "yes")
    assert train.inputs[0].mean(0)[0] == pytest.approx(0, abs=1e-6)
    assert test.inputs[0].tolist() == [[0.0, 0.0, 1.0]]
    assert test.targets is not None
    assert test.targets.tolist() == [1]


def test_csv_refusals(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("age,colour\n1,red\n2,blue\n")
    (tmp_path / "new.csv").write_text("age,colour\n1,green\n")
    (tmp_path / "uneven.csv").write_text("a,b\n1\n")
    with pytest.raises(UserError, match="never seen in training"):
        open_source("csv", {"path": "new.csv", "encode_like": "train.csv"}, tmp_path)
    with pytest.raises(UserError, match="uneven"):
        open_source("csv", {"path": "uneven.csv"}, tmp_path)
    with pytest.raises(UserError, match="no column size"):
        open_source("csv", {"path": "train.csv", "target": "size"}, tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bytes(range(256)) * 4, "cannot read"),
        ("a,b\nß,1\n".encode("latin-1"), "cannot read"),
        (b"a,b\n1,\x00\n", ""),
        (b"1,1\n1,2\n", "two columns called '1'"),
    ],
)
def test_tables_that_are_none(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    if not expected:
        assert len(open_source("csv", {"path": "d.csv"}, tmp_path)) == 1
        return
    with pytest.raises(UserError, match=expected):
        open_source("csv", {"path": "d.csv"}, tmp_path)


def test_a_table_of_a_spreadsheet(tmp_path: Path) -> None:
    """Spreadsheets put a byte-order mark in front of the first name."""
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbflabel,a\nx,1\ny,2\n")
    data = open_source("csv", {"path": "d.csv", "target": "label"}, tmp_path)
    assert data.classes == ("x", "y")


def test_csv_time_series_windows(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("a,b\n" + "\n".join(f"{i},{10 * i}" for i in range(6)))
    data = open_source("csv", {"path": "s.csv", "target": "b", "window": 3}, tmp_path)
    assert data.inputs[0].shape == (3, 2, 3)
    assert data.inputs[0][1].tolist() == [[1, 2, 3], [10, 20, 30]]
    assert data.targets is not None
    assert data.targets.tolist() == [[30], [40], [50]]


def test_image_folders(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, shade in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        for i in range(2):
            image.new("RGB", (6, 4), (shade, 0, i)).save(tmp_path / name / f"{i}.png")
    data = open_source("image_folder", {"path": "."}, tmp_path)
    assert data.inputs[0].shape == (4, 3, 4, 6)
    assert data.classes == ("cat", "dog")
    assert data.inputs[0][:, 0, 0, 0].tolist() == [10, 10, 200, 200]
    grey = open_source("image_folder", {"path": ".", "size": [8, 8], "channels": 1}, tmp_path)
    assert grey.inputs[0].shape == (4, 1, 8, 8)
    broken = tmp_path / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(UserError, match=r"cannot read the image .*dog.1\.png"):
        open_source("image_folder", {"path": "."}, tmp_path)


def test_an_empty_image_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images"):
        open_source("image_folder", {"path": "."}, tmp_path)


def test_text_lines_number_words_by_frequency(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("pos good good film\nneg bad film\n")
    (tmp_path / "test.txt").write_text("neg awful film\n")
    options = {"length": 4, "label": "first", "vocabulary_from": "train.txt"}
    train = open_source("text_lines", {"path": "train.txt", **options}, tmp_path)
    test = open_source("text_lines", {"path": "test.txt", **options}, tmp_path)
    assert train.inputs[0].tolist() == [[3, 3, 2, 0], [4, 2, 0, 0]]
    assert test.inputs[0].tolist() == [[1, 2, 0, 0]]
    assert test.classes == ("neg", "pos")
    assert test.class_balance() == {"neg": 1, "pos": 0}


def test_text_windows_predict_the_next_token(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcabcabc")
    data = open_source("text_lines", {"path": "t.txt", "length": 4, "language": True, "tokens": "characters"}, tmp_path)
    assert data.inputs[0].tolist() == [[2, 3, 4, 2], [3, 4, 2, 3]]
    assert data.targets is not None
    assert data.targets.tolist() == [[3, 4, 2, 3], [4, 2, 3, 4]]


def test_digits_split_is_fixed() -> None:
    pytest.importorskip("sklearn")
    parts = {part: open_source("digits", {"split": part}, Path()) for part in ("train", "test", "all")}
    assert {name: len(data) for name, data in parts.items()} == {"train": 1198, "test": 599, "all": 1797}
    assert set(parts["train"].row_hashes()).isdisjoint(parts["test"].row_hashes())
    assert float(parts["all"].inputs[0].max()) == 1.0
    with pytest.raises(UserError, match="unknown split"):
        open_source("digits", {"split": "dev"}, Path())


def test_a_users_function(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    def make(n: int):
        return arrays[0][:n], arrays[1][:n]

    assert len(open_source("factory", {"n": 4}, Path(), maker=make)) == 4
    assert open_source("factory", {}, Path(), maker=lambda: arrays[0]).targets is None
    with pytest.raises(UserError, match="make failed") as caught:
        open_source("factory", {"n": "x"}, Path(), maker=make)
    assert "TypeError" in caught.value.found
    with pytest.raises(UserError, match="returned no data"):
        open_source("factory", {}, Path(), maker=lambda: "text")


def test_selection_and_not_finite_values() -> None:
    values = torch.arange(40.0).view(20, 2)
    labels = torch.arange(20) % 2

    def make() -> Dataset:
        return Dataset((values,), labels)

    def opened(**options: object) -> Dataset:
        return open_source("factory", options, Path(), maker=make)

    rest, held = opened(hold_out=0.25), opened(hold_out=0.25, part="held_out")
    assert (len(rest), len(held)) == (14, 6) or (len(rest), len(held)) == (16, 4)
    assert set(rest.row_hashes()).isdisjoint(held.row_hashes())
    assert len(opened(limit=5)) == 5
    assert opened(per_class=3).class_balance() == {"0": 3, "1": 3}
    values[3, 1] = torch.nan
    with pytest.raises(UserError, match="not finite") as caught:
        opened()
    assert "sample 3" in caught.value.found


def test_hugging_face_folders(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"x": [[1.0, 2.0], [3.0, 4.0]], "label": [0, 1]})
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "d"))
    data = open_source("hf_dataset", {"path": "d", "inputs": "x", "split": "train"}, tmp_path)
    assert data.inputs[0].tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UserError, match="which split"):
        open_source("hf_dataset", {"path": "d", "inputs": "x", "split": "test"}, tmp_path)
    with pytest.raises(UserError, match="no column y"):
        open_source("hf_dataset", {"path": "d", "inputs": "y", "split": "train"}, tmp_path)


@pytest.mark.data
def test_real_files(data_dir: Path) -> None:
    fashion = {"images": "fashion_mnist/t10k-images-idx3-ubyte.gz", "labels": "fashion_mnist/t10k-labels-idx1-ubyte.gz"}
    assert open_source("idx", fashion, data_dir).class_balance() == {str(i): 1000 for i in range(10)}
    adult = open_source("csv", {"path": "tabular/adult_b.data", "target": "Salary"}, data_dir)
    assert adult.classes == ("<=50K", ">50K")
    sst2 = {"path": "text/sst2/alps_test.tsv", "label": "last", "length": 40, "header": True}
    assert len(open_source("text_lines", sst2, data_dir)) == 872
