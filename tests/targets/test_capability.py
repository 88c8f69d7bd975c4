from pathlib import Path

import pytest
import yaml

from edgepress.errors import UserError
from edgepress.targets.capability import FOLDER, capability_names, load_capability, parse_capability


@pytest.mark.parametrize("name", capability_names())
def test_every_table_loads_and_knows_convolutions(name: str) -> None:
    table = load_capability(name)
    assert table.name == name and table.source
    assert table.rule("aten.conv2d") is not None
    listed = [op for rule in table.rules for op in rule.ops]
    assert len(listed) == len(set(listed)), "an operator with two rules"
    assert not set(listed) & set(table.float_ops)


def test_unknown_tables_name_the_known_ones() -> None:
    with pytest.raises(UserError) as caught:
        load_capability("onnxruntime-z80")
    assert "onnxruntime-x86" in caught.value.expected


@pytest.mark.parametrize("change", [{"bias": "int16"}, {"wieght": {}}, {"rules": [{"ops": ["a"], "role": "guess"}]}])
def test_a_table_that_does_not_fit_names_its_field(change: dict[str, object]) -> None:
    content = yaml.safe_load((FOLDER / "mcu-c.yaml").read_text()) | change
    with pytest.raises(UserError, match=next(iter(change))):
        parse_capability(content, "mine.yaml")


def test_tables_of_users_load_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((FOLDER / "mcu-c.yaml").read_text().replace("name: mcu-c", "name: mine"))
    assert load_capability(str(path)).name == "mine"
