import pytest
import torch

from edgepress.ir import Editor, Program, to_text

aten = torch.ops.aten


def cut_inner(program: Program, keep: int) -> Program:
    editor = Editor(program)
    state = dict(editor.state)
    editor.set_tensor("inner.weight", state["inner.weight"][:keep])
    editor.set_tensor("inner.bias", state["inner.bias"][:keep])
    editor.set_tensor("outer.weight", state["outer.weight"][:, :keep])
    return editor.finish(note=f"kept {keep}")


def test_shapes_follow_a_cut_and_the_batch_stays_free(residual: Program) -> None:
    cut = cut_inner(residual, 5)
    assert "f32[?, 5, 8, 8]" in to_text(cut)
    assert cut.dynamic_batch()
    assert cut(torch.randn(3, 1, 8, 8)).shape == (3, 4)
    assert cut.history[-1] == "kept 5"


def test_the_original_is_untouched(residual: Program) -> None:
    before = residual.digest()
    cut_inner(residual, 5)
    assert residual.digest() == before


def test_editing_nothing_changes_nothing(residual: Program) -> None:
    assert to_text(Editor(residual).finish()) == to_text(residual)


def test_inconsistent_cut_names_the_node(residual: Program) -> None:
    editor = Editor(residual)
    editor.set_tensor("inner.weight", editor.state["inner.weight"][:5])
    with pytest.raises(ValueError, match="conv2d"):
        editor.finish()


def test_new_node_with_a_new_buffer(residual: Program) -> None:
    editor = Editor(residual)
    relu = next(n for n in editor.graph.nodes if n.target == aten.relu.default)
    gain = editor.add_tensor("gain", torch.full((1,), 2.0))
    scaled = editor.call(aten.mul.Tensor, (relu, gain), after=relu)
    editor.replace_uses(relu, scaled)
    doubled = editor.finish()
    assert "gain" in doubled.state()
    assert "weight gain" in to_text(doubled)
    assert not torch.allclose(doubled(torch.ones(1, 1, 8, 8)), residual(torch.ones(1, 1, 8, 8)))


def test_dead_nodes_and_their_weights_go(residual: Program) -> None:
    editor = Editor(residual)
    norm = next(n for n in editor.graph.nodes if n.target == aten.batch_norm.default)
    editor.replace_uses(norm, norm.args[0])
    without = editor.finish()
    assert "batch_norm" not in to_text(without)
    assert not [name for name in without.state() if name.startswith("norm.") and "num_batches" not in name]
