"""Encoders and decoders of transformers, built from a configuration, saved to a folder, imported from there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepress.errors import UserError
from edgepress.importers.huggingface import from_huggingface
from edgepress.importers.pytorch import InputSpec
from edgepress.pipeline.model import import_model
from edgepress.recipe.model import ModelSource

transformers = pytest.importorskip("transformers")
TOKENS, MASK = InputSpec("input_ids", (8,), "int64"), InputSpec("attention_mask", (8,), "int64")


def bert() -> Any:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def saved(make: Callable[[], Any], folder: Path) -> Any:
    torch.manual_seed(0)
    network = make().eval()
    network.save_pretrained(folder)
    return network


@pytest.mark.parametrize("make", [bert, gpt2])
def test_outputs_are_those_of_transformers(make: Callable[[], Any], tmp_path: Path) -> None:
    network = saved(make, tmp_path)
    program = from_huggingface(str(tmp_path), [TOKENS, MASK])
    tokens, mask = torch.randint(0, 50, (5, 8)), torch.ones(5, 8, dtype=torch.int64)
    mask[1, 5:] = 0
    with torch.no_grad():
        wanted = network(input_ids=tokens, attention_mask=mask).logits
        torch.testing.assert_close(program.module()(tokens, mask), wanted, rtol=1e-4, atol=1e-5)
    assert program.input_names == ("input_ids", "attention_mask")


def test_a_recipe_names_a_folder_beside_it(tmp_path: Path) -> None:
    saved(bert, tmp_path / "small")
    text = json.dumps({"huggingface": "small", "inputs": {"input_ids": {"shape": [8], "dtype": "int64"}}})
    source = ModelSource.model_validate_json(text, context={"base": tmp_path})
    assert import_model(source).module()(torch.zeros(3, 8, dtype=torch.int64)).shape == (3, 3)


def test_without_inputs_it_takes_tokens(tmp_path: Path) -> None:
    saved(bert, tmp_path)
    program = from_huggingface(str(tmp_path))
    assert program.input_names == ("input_ids",)
    assert program.example_inputs[0].shape[1] == 32, "as many as the network has positions"


def test_no_model_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read a model"):
        from_huggingface(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    network = saved(bert, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        from_huggingface(str(tmp_path))


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    saved(bert, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"model_type": "never_heard_of", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **own}))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match="cannot read a model"):
        from_huggingface(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_two_stacks_are_refused(tmp_path: Path) -> None:
    transformers.T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="encoder-decoder"):
        from_huggingface(str(tmp_path))


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(architectures=["Nothing"]).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not say"):
        from_huggingface(str(tmp_path))


def test_inputs_the_network_does_not_take(tmp_path: Path) -> None:
    saved(bert, tmp_path)
    with pytest.raises(UserError, match="has no input pixels"):
        from_huggingface(str(tmp_path), [InputSpec("pixels", (8,), "int64")])
    with pytest.raises(UserError, match="too many inputs"):
        from_huggingface(str(tmp_path), [TOKENS] * 4)


# -- the hub, which no test reaches ------------------------------------------------------------------------------------

ID, REVISION = "someone/tiny-bert", "0" * 40
READ = f"from edgepress.importers.huggingface import from_huggingface; print(from_huggingface({ID!r}).input_names)"


def offline(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The command with an empty or prepared cache and no hub: the library reads both from the environment."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)


def test_an_id_that_cannot_be_fetched_is_a_wrong_model(tmp_path: Path) -> None:
    model = {"huggingface": ID, "inputs": {"input_ids": {"shape": [8], "dtype": "int64"}}}
    recipe = {"schema": 1, "name": "hub", "model": model, "task": "classification", "measure": {"accuracy": False}}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    done = offline(tmp_path / "empty", "-m", "edgepress_cli", "inspect", str(tmp_path / "r.yaml"))
    assert done.returncode == 2
    assert f"cannot read a model from {ID}" in done.stderr
    assert f"hf download {ID}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_id_is_read_from_the_cache_without_the_hub(tmp_path: Path) -> None:
    stored = tmp_path / "hub" / f"models--{ID.replace('/', '--')}"
    saved(bert, stored / "snapshots" / REVISION)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(REVISION)
    done = offline(tmp_path, "-c", READ)
    assert (done.returncode, done.stdout.strip()) == (0, "('input_ids',)"), done.stderr
