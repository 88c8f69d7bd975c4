"""`data:` where samples come from. Each source is told apart by its `kind`."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt, model_validator

from edgepress.recipe.section import FunctionRef, RecipePath, Section, problem

Columns = str | tuple[str, ...]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Source(Section):
    """What all sources have in common: the choice of samples.

    Attributes:
        limit: take this many samples, drawn by `seed`. per_class: take this many of each class (few-sample mode).
        hold_out: split off this fraction, alike per class; part: which side of the split this source is.
        seed: of these draws; two sources that split the same file need the same seed.
    """

    limit: PositiveInt | None = None
    per_class: PositiveInt | None = None
    hold_out: Fraction | None = None
    part: Literal["rest", "held_out"] | None = None
    seed: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _part_of_a_split(self) -> "Source":
        if (self.hold_out is None) != (self.part is None):
            raise problem(
                "hold_out and part belong together",
                found=f"hold_out {self.hold_out}, part {self.part}",
                expected="both or neither",
                fix="e.g. hold_out: 0.2 with part: rest for training and part: held_out for evaluation",
            )
        return self

    def options(self) -> dict[str, object]:
        """The settings that are given, as the data room takes them; a `null` in place of a default is one."""
        fields = type(self).model_fields
        given = {k: v for k, v in self.model_dump(exclude={"kind"}).items() if v != ()}
        return {k: v for k, v in given.items() if v is not None or fields[k].default is not None}


class NpzSource(Source):
    """Arrays of a numpy archive; several inputs as a list of array names, in the order of the network's inputs.

    Attributes:
        slices: arrays with one value per sample ("speaker", "night"): accuracy is reported for each value.
    """

    kind: Literal["npz"]
    path: RecipePath
    inputs: Columns = "images"
    targets: str | None = "labels"
    classes: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


class IdxSource(Source):
    """A pair of IDX files as MNIST and its kin are distributed, gzipped or not."""

    kind: Literal["idx"]
    images: RecipePath
    labels: RecipePath | None = None
    classes: tuple[str, ...] = ()


class CsvSource(Source):
    """A table with a header line: every column that is neither `target` nor in `drop` is a feature.

    Attributes:
        delimiter: "," unless given, a tab for `.tsv`. encode_like: the training table, for a separate test file.
        window: of a time series, samples of this many rows. standardize: features to mean 0, standard deviation 1.
    """

    kind: Literal["csv"]
    path: RecipePath
    target: str | None = None
    drop: tuple[str, ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encode_like: RecipePath | None = None
    window: PositiveInt | None = None
    standardize: bool = False


class ImageFolderSource(Source):
    """One folder per class. `size` is (height, width): images are resized to it."""

    kind: Literal["image_folder"]
    path: RecipePath
    size: tuple[PositiveInt, PositiveInt] | None = None
    channels: Literal[1, 3, 4] = 3


class TextLinesSource(Source):
    """A text file, one sample per line, as token numbers.

    Attributes:
        length: tokens kept of each line. vocabulary_from: the training file, for a separate test file.
        label: where a line holds its class. language: windows of the whole text, each token's target is the next.
    """

    kind: Literal["text_lines"]
    path: RecipePath
    length: PositiveInt = 128
    tokens: Literal["words", "bytes", "characters"] = "words"
    vocabulary_from: RecipePath | None = None
    vocabulary_size: PositiveInt = 10_000
    label: Literal["first", "last"] | None = None
    header: bool = False
    language: bool = False


class HfDatasetSource(Source):
    """A folder that Hugging Face's `datasets` saved (`save_to_disk`); nothing is fetched."""

    kind: Literal["hf_dataset"]
    path: RecipePath
    split: str | None = None
    inputs: Columns
    targets: str | None = "label"


class DigitsSource(Source):
    """scikit-learn's bundled 8x8 digits, split once and for all so that train and test never meet."""

    kind: Literal["digits"]
    split: Literal["train", "test", "all"] = "train"


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
    """x -> (x * scale - mean) / std, with mean and std per channel (or one for all).

    `layout: nhwc` says that the source stores channels last; the network gets them first.
    """

    scale: Annotated[float, Field(gt=0)] = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()
    layout: Literal["nchw", "nhwc"] = "nchw"

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
