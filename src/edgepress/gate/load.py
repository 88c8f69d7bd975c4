"""Evidence and budgets from the files a user names."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgepress.errors import UserError
from edgepress.gate.artifact import artifact_evidence, describe_artifact
from edgepress.gate.budget import Budget, first_problem, parse_budgets
from edgepress.measure.record import Evidence

EVIDENCE_FILE = "evidence.json"


def load_evidence(path: Path, command: str = "") -> Evidence:
    """Evidence of a finished run (its folder or its `evidence.json`), or of a bare artifact.

    Raises:
        UserError: nothing is there, or what is there is broken, unfinished or unknown.
    """
    if path.is_dir() and (path / EVIDENCE_FILE).is_file():
        return read_evidence(path / EVIDENCE_FILE)
    if path.suffix == ".json":
        return read_evidence(path)
    return artifact_evidence(describe_artifact(path), command=command)


def read_evidence(path: Path) -> Evidence:
    """Read and check an `evidence.json`.

    Raises:
        UserError: it cannot be read, is no JSON, or holds what no evidence may (NaN, an unknown without a reason).
    """
    try:
        return Evidence.model_validate_json(path.read_bytes())
    except OSError as error:
        found, fix = error.strerror or "an unreadable file", "give a run folder, or a model file"
        raise UserError(f"evidence {path} cannot be read", found=found, expected="a file", fix=fix) from error
    except ValidationError as error:
        text, found = first_problem(error)
        what, expected = f"evidence {path} cannot be used: {text}", "what edgepress run writes, finite numbers only"
        raise UserError(what, found=found, expected=expected, fix="edgepress run RECIPE writes it anew") from error


def load_budgets(path: Path) -> tuple[Budget, ...]:
    """Budgets from a YAML file: a list, or a mapping with `budgets:` (a recipe will do).

    Raises:
        UserError: the file cannot be read, holds no budgets, or contradictory ones.
    """
    import yaml

    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        found, fix = error.strerror or "an unreadable file", "check the path after --budgets"
        raise UserError(f"budgets {path} cannot be read", found=found, expected="a file", fix=fix) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found, fix = " ".join(str(error).split())[:120], "correct the syntax there"
        raise UserError(f"budgets {path} is not YAML", found=found, expected="YAML", fix=fix) from error
    items = data.get("budgets") if isinstance(data, dict) else data
    budgets = parse_budgets(items or [], str(path))
    if not budgets:
        raise UserError(
            f"{path} holds no budgets: a gate without a promise would pass everything",
            found="an empty list" if items == [] else "no `budgets:`",
            expected="at least one budget",
            fix="write: budgets: [{metric: size_bytes, max: 500000}]",
        )
    return budgets
