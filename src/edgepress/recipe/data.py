"""`data:` where samples come from. Each source is told apart by its `kind`."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, PositiveInt, model_validator

from edgepress.recipe.section import FunctionRef, RecipePath, Section, problem

Columns = str | tuple[str, ...]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Source(Section):
    """What all sources have in common.

    Attributes:
        limit: take this many samples (the first ones; an even choice per class is the source's affair).
    """

    limit: PositiveInt | None = None


class NpzSource(Source):
    """Arrays of a numpy archive. For networks with several inputs: model input -> array name."""

    kind: Literal["npz"]
    path: RecipePath
    inputs: str | dict[str, str] = "images"
    targets: str = "labels"


class IdxSource(Source):
    """A pair of IDX files as MNIST and its kin are distributed, gzipped or not."""

    kind: Literal["idx"]
    inputs: RecipePath
    targets: RecipePath


class CsvSource(Source):
    """A table with a header line. `inputs` empty: every column that is no target."""

    kind: Literal["csv"]
    path: RecipePath
    inputs: Columns = ()
    targets: Columns
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","


class ImageFolderSource(Source):
    """One folder per class. `size` is (height, width): images are resized to it."""

    kind: Literal["image_folder"]
    path: RecipePath
    size: tuple[PositiveInt, PositiveInt] | None = None


class TextLinesSource(Source):
    """A text file, one sample per line; `length` characters or tokens are kept of each."""

    kind: Literal["text_lines"]
    path: RecipePath
    length: PositiveInt = 128


class HfDatasetSource(Source):
    """A data set for Hugging Face's `datasets`: a name on the hub (network) or a folder (no network)."""

    kind: Literal["hf_dataset"]
    name: Annotated[str, Field(min_length=1)]
    config: str | None = None
    split: str = "train"
    inputs: Columns
    targets: str


class DigitsSource(Source):
    """scikit-learn's bundled 8x8 digits, split once by a fixed seed so that train and test never meet."""

    kind: Literal["digits"]
    part: Literal["train", "test"]
    test_fraction: Fraction = 0.25


class FactorySource(Source):
    """A function of the user's that returns (inputs, targets) as arrays."""

    kind: Literal["factory"]
    function: FunctionRef
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)


DataSource = Annotated[
    NpzSource
    | IdxSource
    | CsvSource
    | ImageFolderSource
    | TextLinesSource
    | HfDatasetSource
    | DigitsSource
    | FactorySource,
    Field(discriminator="kind"),
]


class Calibration(Section):
    """How many samples, drawn by the seed from `train`, quantization and scoring may look at."""

    samples: PositiveInt = 256


class Preprocess(Section):
    """x -> (x * scale - mean) / std, with mean and std per channel (or one for all)."""

    scale: Annotated[float, Field(gt=0)] = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @model_validator(mode="after")
    def _as_many_means_as_deviations(self) -> "Preprocess":
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise problem(
                "preprocess.mean and preprocess.std differ in length",
                found=f"{len(self.mean)} and {len(self.std)}",
                expected="one number per channel in both",
                fix="give both as many numbers as the input has channels",
            )
        return self


class Data(Section):
    """`train` feeds training and calibration, `evaluate` every accuracy; they must not share samples."""

    train: DataSource | None = None
    evaluate: DataSource | None = None
    calibration: Calibration = Calibration()
    preprocess: Preprocess = Preprocess()
