"""A target as data: where an artifact runs, on which runtime, and what is known about that place. A YAML file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgepress.errors import UserError

Runtime = Literal["onnxruntime", "openvino", "torch", "tensorrt", "c"]
Kind = Literal["local", "ssh", "qemu-arm64", "mcu"]
MeterName = Literal[
    "rapl", "nvml", "hwmon", "ina3221", "ina2xx", "pi5-pmic", "powermetrics", "joulescope", "ppk2", "serial-csv"
]  # fmt: skip

READY_MADE = Path(__file__).parent / "files"


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Strict):
    """What the place can hold; `None` where nothing is known.

    Attributes:
        memory_bytes: RAM for the process or the firmware. flash_bytes: program and weights.
        artifact_bytes: largest artifact that is accepted.
    """

    memory_bytes: int | None = Field(default=None, gt=0)
    flash_bytes: int | None = Field(default=None, gt=0)
    artifact_bytes: int | None = Field(default=None, gt=0)


class Remote(Strict):
    """How to reach a board. Everything else (user, port, keys, jump hosts) comes from the user's OpenSSH configuration.

    Attributes:
        host: destination as `ssh` takes it ("pi@raspberrypi.local" or a Host alias); may be given at the command line.
        python: interpreter on the far side that has numpy and onnxruntime.
        directory: where worker and artifacts are kept on the far side.
        config: an OpenSSH configuration file to use instead of the user's own.
    """

    host: str = ""
    python: str = "python3"
    directory: str = ".cache/edgepress"
    config: str = ""
    connect_timeout_s: int = Field(default=10, gt=0)


class Target(Strict):
    """A place where artifacts run.

    Attributes:
        name: as the user calls it. kind: how it is reached. runtime: what executes the artifact. device: the runtime's
            name for the device ("cpu", "cuda:0", "GPU"; for microcontrollers the core).
        threads: intra-op threads; part of the measurement's meaning, hence never "all" by default.
        capability: name of the table that says which operators run in which number format.
        meters: energy meters that may be there, best first. meter_settings: what a meter cannot find out itself, e.g.
            `{ppk2: {millivolts: 3300}, serial-csv: {port: /dev/ttyUSB0, column: 1, scale: 0.001}}`.
        power_mode: the mode that the board must be in (as `nvpmodel -q` names it on a Jetson), "" for any: another one
            is told as a warning.
        channel_alignment: channel counts that are multiples of this fill the vector units.
        options: passed to the runtime as they are (session options, provider options, compile mode).
    """

    name: str
    description: str = ""
    kind: Kind = "local"
    runtime: Runtime = "onnxruntime"
    device: str = "cpu"
    threads: int = Field(default=1, ge=1)
    capability: str
    meters: tuple[MeterName, ...] = ()
    power_mode: str = ""
    meter_settings: Mapping[MeterName, Mapping[str, str | int | float]] = Field(default_factory=dict)
    channel_alignment: int = Field(default=1, ge=1)
    limits: Limits = Limits()
    remote: Remote | None = None
    options: Mapping[str, str | int | float | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ssh_says_where(self) -> Target:
        if self.kind == "ssh" and self.remote is None:
            raise ValueError("kind ssh needs a `remote:` section (host, python, directory)")
        if self.kind != "ssh" and self.remote is not None:
            raise ValueError(f"`remote:` belongs to kind ssh, not to kind {self.kind}")
        return self


def ready_made() -> tuple[str, ...]:
    """Names of the target files that come with edgepress."""
    return tuple(sorted(path.stem for path in READY_MADE.glob("*.yaml")))


def load(name_or_path: str | Path) -> Target:
    """The target of that ready-made name, or of that YAML file.

    Raises:
        UserError: no such target (the nearest names are given), or the file does not describe one.
    """
    path = _find(name_or_path)
    fields = _read(path)
    if path.parent == READY_MADE:
        fields.setdefault("name", path.stem)
    try:
        return Target.model_validate(fields)
    except ValidationError as error:
        raise _explain(path, error) from None


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if text in ready_made():
        return READY_MADE / f"{text}.yaml"
    path = Path(text)
    if path.is_file():
        return path
    raise _no_such_target(text)


def _no_such_target(text: str) -> UserError:
    names = ready_made()
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.4)
    return UserError(
        f"no target {text!r}",
        found="neither a ready-made target nor a file of that name",
        expected=f"a YAML file or one of: {', '.join(names)}",
        fix=f"did you mean {' or '.join(near)}?" if near else "edgepress targets lists them",
    )


def _read(path: Path) -> dict[str, object]:
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"target file {path} is not YAML", found=" ".join(str(error).split())) from None
    except OSError as error:
        raise UserError(f"target file {path} cannot be read", found=error.strerror or str(error)) from None
    if not isinstance(fields, dict):
        raise UserError(
            f"target file {path} does not describe a target",
            found=f"a {type(fields).__name__}" if fields is not None else "an empty file",
            expected="a mapping with name, runtime, device, capability, ...",
        )
    return fields


def _explain(path: Path, error: ValidationError) -> UserError:
    """The first thing that is wrong with the file, with the nearest valid key for an unknown one."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the file as a whole"
    what = f"target file {path}: {where}"
    if first["type"] == "extra_forbidden":
        return _unknown_key(what, str(first["loc"][-1]), _keys_at(first["loc"][:-1]))
    found = "nothing" if first["type"] == "missing" else repr(first["input"])
    if not first["loc"]:
        found = ""
    return UserError(what, found=found, expected=first["msg"].removeprefix("Value error, "))


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[Strict]] = {"limits": Limits, "remote": Remote}
    model = sections[str(location[0])] if location else Target
    return sorted(model.model_fields)


def _unknown_key(what: str, key: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(key, known, n=1)
    return UserError(
        what,
        found="a key that no target has",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean {near[0]!r}?" if near else f"remove {key!r}",
    )
