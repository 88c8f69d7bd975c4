"""A recipe is read, every mistake in it is named with its place, and what is dumped loads back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepress.errors import ExitCode, UserError
from edgepress.gate.budget import Budget
from edgepress.recipe import Recipe, json_schema, load, only_steps, parse_recipe, resolved_yaml
from edgepress.recipe.steps import STEP_KINDS, Export, Prune, Quantize, Train

RECIPE = """\
schema: 1
name: quickstart
seed: 3
model:
  factory: models/digits.py:residual_cnn
  kwargs: {width: 16}
  weights: models/digits.safetensors
  inputs: {image: {shape: [1, 8, 8], dtype: float32}}
data:
  train: {kind: npz, path: train.npz, inputs: images, targets: labels, limit: 4000}
  evaluate: {kind: factory, function: models/digits.py:test_set}
  preprocess: {scale: 0.0625, mean: [0.1], std: [1]}
steps:
  - prune: {criterion: taylor, reduce: {macs: 0.5}}
  - train: {lr: 2e-3, distill: {loss: kd}}
  - quantize: {}
  - export: {format: onnx, opset: 17}
budgets:
  - {metric: size_bytes, max_ratio: 0.25}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def refused(path: Path, *overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    error = caught.value
    assert error.exit_code is ExitCode.WRONG_USE
    assert error.found or error.expected
    assert error.fix
    return error


def refused_text(text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_recipe(text, name="r.yaml", base=Path("/recipes"))
    return caught.value


def test_a_recipe_becomes_typed_sections(recipe_file: Path) -> None:
    recipe = load(recipe_file)
    assert [item.kind for item in recipe.steps] == ["prune", "train", "quantize", "export"]
    assert [type(item.config) for item in recipe.steps] == [Prune, Train, Quantize, Export]
    prune, train = recipe.steps[0].config, recipe.steps[1].config
    assert isinstance(prune, Prune)
    assert prune.reduce.macs == 0.5
    assert isinstance(train, Train)
    assert train.lr == 0.002  # YAML 1.1 would have read 2e-3 as text
    assert recipe.model.door == "factory"


def test_paths_are_relative_to_the_recipe_wherever_one_stands(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    recipe = load(Path("../recipe.yaml"))
    assert recipe.model.weights == tmp_path / "models/digits.safetensors"
    assert recipe.model.factory == f"{tmp_path}/models/digits.py:residual_cnn"


def test_a_module_function_is_no_path() -> None:
    text = RECIPE.replace("models/digits.py:residual_cnn", "torchzoo.nets:resnet")
    assert parse_recipe(text, name="r", base=Path("/b")).model.factory == "torchzoo.nets:resnet"


def test_the_resolved_recipe_names_every_default_and_loads_back(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load(recipe_file, ["measure.latency=null", "steps.1.train.epochs=7"])
    assert recipe.budgets == (Budget(metric="size_bytes", max_ratio=0.25),)
    text = resolved_yaml(recipe, tmp_path / "runs" / "one")
    assert "../../train.npz" in text
    assert "allocation: global" in text
    assert parse_recipe(text, name="resolved", base=tmp_path / "runs" / "one") == recipe
    assert recipe.measure.latency is None


def test_the_same_recipe_resolves_to_the_same_text(recipe_file: Path) -> None:
    assert resolved_yaml(load(recipe_file)) == resolved_yaml(load(recipe_file))


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=150, deadline=None)
@given(name=names, kwargs=st.dictionaries(st.text(), values, max_size=4))
def test_any_value_survives_dump_and_load(name: str, kwargs: dict[str, object]) -> None:
    data = {
        "schema": 1,
        "name": name,
        "model": {"factory": "a.b:c", "kwargs": kwargs, "inputs": {"x": {"shape": [3]}}},
        "measure": {"accuracy": False},
    }
    recipe = Recipe.model_validate_json(json.dumps(data))
    assert parse_recipe(resolved_yaml(recipe), name="dumped", base=Path("/b")) == recipe


@settings(max_examples=300, deadline=None)
@given(text=st.text() | st.text(alphabet="abc:-[]{}&*!|>'\"#%@` \n\t01.", max_size=60))
def test_any_text_is_a_recipe_or_a_user_error(text: str) -> None:
    with pytest.raises(UserError):
        parse_recipe(text, name="fuzz", base=Path("/b"))


lines = RECIPE.splitlines()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(line=st.sampled_from(range(len(lines))), column=st.integers(0, 60), junk=st.text(max_size=3))
def test_a_damaged_recipe_is_a_recipe_or_a_user_error(line: int, column: int, junk: str) -> None:
    damaged = lines.copy()
    damaged[line] = damaged[line][:column] + junk + damaged[line][column + 1 :]
    try:
        parse_recipe("\n".join(damaged), name="fuzz", base=Path("/b"))
    except UserError as error:
        assert error.what.startswith("fuzz")


MISTAKES = {
    "unknown key": ("opset: 17", "opsett: 17", ":17:28", "unknown key 'opsett' in steps.3.export", "opset"),
    "unknown section": ("budgets:", "budgts:", ":18:1", "unknown key 'budgts'", "rename it to 'budgets'"),
    "unknown step": ("quantize:", "quantise:", ":16:5", "unknown key 'quantise'", "rename it to 'quantize'"),
    "wrong type": ("seed: 3", "seed: three", ":3:7", "seed", "a whole number"),
    "number as text": ("opset: 17", "opset: '17'", ":17:35", "steps.3.export.opset", "a whole number"),
    "true for a number": ("seed: 3", "seed: true", ":3:7", "seed", "a whole number"),
    "out of range": ("macs: 0.5", "macs: 1.5", ":14:47", "steps.0.prune.reduce.macs", "less than 1"),
    "unknown word": ("criterion: taylor", "criterion: tailor", ":14:24", "criterion", "did you mean 'taylor'?"),
    "unknown data kind": ("kind: npz", "kind: npy", ":10:17", "data.train", "did you mean 'npz'?"),
    "no data kind": ("kind: npz, ", "", ":10:3", "data.train is of no known kind", "digits"),
    "missing key": ("path: train.npz, ", "", ":10:3", "data.train lacks 'path'", "add 'path' to data.train"),
    "missing name": ("name: quickstart\n", "", ":1:1", "the recipe lacks 'name'", "add 'name'"),
    "two doors": ("  kwargs: {width: 16}", "  onnx: a.onnx", ":4:1", "exactly one", "keep one: factory, onnx"),
    "two kinds in a step": ("- quantize: {}", "- {quantize: {}, export: {}}", ":16:5", "exactly one", "quantize"),
    "a step of nothing": ("quantize: {}", "quantize:", ":16:5", "steps.2", "one of prune"),
    "bad function": ("digits.py:residual_cnn", "digits.py", ":5:3", "model.factory", "after a colon"),
    "data missing for a step": ("train: {kind", "evaluat: {kind", ":10:3", "unknown key 'evaluat'", "evaluate"),
    "newer schema": ("schema: 1", "schema: 2", ":1:9", "schema", "1"),
    "unknown key of a budget": ("max_ratio", "max_ration", ":19:26", "unknown key 'max_ration'", "to 'max_ratio'"),
    "budget without a limit": (", max_ratio: 0.25", "", ":19:5", "no limit; give one of", "change budgets.0"),
    "budgets that exclude each other": (
        "max_ratio: 0.25",
        "min: 9, max: 1",
        ":19:5",
        "min 9 is above max 1",
        "budgets.0",
    ),
    "contradicting budgets": (
        "- {metric: size_bytes, max_ratio: 0.25}",
        "- {metric: x, max: 1}\n  - {metric: x, min: 2}",
        ":18:1",
        "two budgets on x contradict",
        "remove or change",
    ),
    "lengths differ": ("mean: [0.1]", "mean: [0.1, 0.2]", ":12:3", "preprocess", "as many numbers"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_place_and_a_way_out(tmp_path: Path, mistake: tuple[str, ...]) -> None:
    before, after, place, what, way_out = mistake
    assert before in RECIPE
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace(before, after, 1))
    error = refused(path)
    assert error.what.startswith(f"{path}{place}: "), error.what
    assert what in error.what
    assert way_out in str(error)


def test_a_step_that_needs_data_says_which(recipe_file: Path) -> None:
    error = refused(recipe_file, "data.train=null")
    assert "steps.0.prune needs data.train" in error.what
    assert ":14:5" in error.what


def test_accuracy_needs_data_or_is_switched_off(recipe_file: Path) -> None:
    assert "data.evaluate" in refused(recipe_file, "data.evaluate=null").what
    assert load(recipe_file, ["data.evaluate=null", "measure.accuracy=false"]).data.evaluate is None


def test_the_number_of_further_mistakes_is_told(recipe_file: Path) -> None:
    recipe_file.write_text(RECIPE.replace("seed: 3", "seed: x").replace("opset: 17", "opset: one"))
    assert refused(recipe_file).what.endswith("(and 1 more)")


def test_what_is_no_recipe_file(tmp_path: Path, recipe_file: Path) -> None:
    assert "recipe.yaml" in refused(tmp_path / "recipes.yaml").fix
    assert "no such file" in refused(tmp_path / "nowhere" / "x.yaml").what
    assert "directory" in refused(tmp_path).found
    binary = tmp_path / "model.onnx"
    binary.write_bytes(b"\x08\x07\xff\xfe")
    assert "UTF-8" in refused(binary).found


YAML_TRAPS = {
    "empty": ("", "empty"),
    "only a comment": ("# nothing\n", "empty"),
    "a list": ("- 1\n- 2\n", "the recipe: not a usable value"),
    "a word": ("hello", "the recipe: not a usable value"),
    "broken": ("name: [1, 2", "r.yaml:1:12: not valid YAML"),
    "tab": ("model:\n\tfactory: x", "r.yaml:2:1: not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "r.yaml:2:1"),
    "duplicate": ("name: a\nseed: 1\nname: b\n", "r.yaml:3:1: the key 'name' is given twice"),
    "python object": ("name: !!python/object/apply:os.getcwd []", "r.yaml:1:7"),
    "key of a number": ("1: a", "r.yaml:1:1: a key must be text"),
    "key of a list": ("? [1]\n: a", "r.yaml:1:3: a key must be text"),
    "unknown alias": ("a: *b", "r.yaml:1:4"),
    "infinite": ("seed: 1e999", "r.yaml:1:7: not a usable number"),
    "digits without end": ("seed: " + "1" * 5000, "r.yaml:1:7: not a usable number"),
    "half a character": ('name: "\\ud800"', "r.yaml:1:7"),
    "loop": ("a: &a [*a]", "nested too deeply"),
    "deep": ("[" * 3000, "nested too deeply"),
    "large": ("#" * 300_000, "too large"),
}


@pytest.mark.parametrize(("text", "what"), YAML_TRAPS.values(), ids=YAML_TRAPS)
def test_yaml_traps(text: str, what: str) -> None:
    assert what in refused_text(text).what


def test_a_bomb_of_aliases_is_bounded() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "aliases expand to too much" in refused_text("\n".join(["a0: &a0 lol", *levels])).what


def test_yaml_that_others_read_differently_is_read_as_text() -> None:
    text = RECIPE.replace("{width: 16}", "{a: yes, b: 2026-01-01, c: 0x10, d: 010, e: 1e-3, f: .inf, g: 1_000}")
    kwargs = parse_recipe(text, name="r", base=Path("/b")).model.kwargs
    assert kwargs == {"a": "yes", "b": "2026-01-01", "c": "0x10", "d": 10, "e": 0.001, "f": ".inf", "g": "1_000"}


def test_the_json_schema_describes_all_steps_and_is_plain_json() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) >= {"schema", "name", "model", "data", "steps", "targets", "measure", "budgets"}
    assert set(schema["$defs"]["Step"]["properties"]) == {kind.kind for kind in STEP_KINDS}
    assert schema["additionalProperties"] is False


def test_loading_a_recipe_does_not_import_torch(recipe_file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edgepress.recipe import load; load(Path(sys.argv[1]));"
        "heavy = {'torch', 'numpy', 'onnx', 'scipy', 'typer'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program, recipe_file], check=True, timeout=60)


def test_only_some_steps_of_a_recipe_for_c_leave_onnx() -> None:
    recipe = load(Path(__file__).parents[2] / "recipes/embedded.yaml")
    formats = {
        kind: [item.config.format for item in only_steps(recipe, kind).steps if item.kind == "export"]  # type: ignore[attr-defined]
        for kind in ("prune", "quantize")
    }
    assert formats == {"prune": ["onnx"], "quantize": ["c"]}
