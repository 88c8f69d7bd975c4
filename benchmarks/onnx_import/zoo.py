"""Write the networks people deploy as `.onnx` files, with random weights, through both exporters of torch.

    pip install torchvision timm transformers
    python benchmarks/onnx_import/zoo.py FOLDER [NAME...]
    python benchmarks/onnx_import/files.py FOLDER --out RESULTS

A form says how a file is written: the exporter (`script` is TorchScript's, `dynamo` the newer one), the opset, and
whether batch and sequence are free. A network is written in each of its forms; statistics of batch norms are random.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50,
         "max_position_embeddings": 64}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 50, "max_position_embeddings": 64}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 50}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}

# Image networks: name -> (width of the picture, forms).
TORCHVISION = {
    "mobilenet_v2": (96, "script11 free", "dynamo18 free"), "mobilenet_v3_small": (96, "script14", "dynamo20 free"),
    "shufflenet_v2_x0_5": (96, "script12 free", "dynamo18"), "squeezenet1_1": (96, "script8"),
    "efficientnet_b0": (96, "script13 free"), "regnet_y_400mf": (96, "dynamo18 free"), "mnasnet0_5": (96, "script10"),
    "densenet121": (64, "dynamo18 free"), "convnext_tiny": (64, "script17 free"),
    "swin_t": (64, "script16", "dynamo18"), "swin_v2_t": (64, "script17 free"),
    "resnext50_32x4d": (64, "script16 free"),
}  # fmt: skip
TIMM = {
    "ghostnet_050": (96, "script12 free"), "repvgg_a0": (64, "script13 free"), "mobilevit_xxs": (64, "script14 free"),
    "edgenext_xx_small": (64, "script17 free"), "levit_128s": (224, "script14 free"), "fbnetc_100": (64, "script9"),
    "skresnet18": (64, "script13"), "hrnet_w18_small": (64, "script11 free"), "dla34": (64, "script13 free"),
    "dpn68": (64, "script13"), "cspdarknet53": (64, "script11"), "inception_v3": (96, "script13 free"),
    "efficientformer_l1": (224, "script16 free"), "fastvit_t8": (64, "dynamo18 free"),
    "gmlp_s16_224": (224, "script13"),
    "deit_tiny_patch16_224": (224, "dynamo20 free"), "botnet26t_256": (256, "script14"), "coat_tiny": (224, "script16"),
    "convmixer_768_32": (64, "script13"), "hgnetv2_b0": (64, "script15 free"), "ecaresnet26t": (64, "script12 free"),
    "gcresnext26ts": (64, "script16"), "hardcorenas_a": (64, "script12"), "inception_next_atto": (64, "dynamo18 free"),
}  # fmt: skip
# Text networks: class of transformers -> (settings, forms).
TEXT = {
    "BertForSequenceClassification": (SMALL, "script11 free", "script14 free", "dynamo18 free"),
    "DistilBertForSequenceClassification": (DISTIL, "script11 free", "dynamo18 free"),
    "RobertaForTokenClassification": (SMALL, "script12 free", "dynamo18 free"),
    "AlbertModel": ({**SMALL, "embedding_size": 16}, "script13 free"), "MPNetModel": (SMALL, "script14 free"),
    "MobileBertModel": ({**SMALL, "intra_bottleneck_size": 16, "embedding_size": 16}, "script14 free"),
    "DebertaV2Model": ({**SMALL, **DEBERTA}, "script15 free"), "CLIPTextModel": (SMALL, "script14 free"),
    "T5EncoderModel": (T5, "script13 free", "dynamo18 free"),
    "GPT2LMHeadModel": (GPT2, "script13 free", "script17 free", "dynamo18 free"),
    "GPTNeoXForCausalLM": (SMALL, "script14 free"),
    "LlamaForCausalLM": ({**SMALL, "num_key_value_heads": 2}, "script14 free", "script17 free", "dynamo18 free"),
    "Qwen2ForCausalLM": ({**SMALL, "num_key_value_heads": 2}, "script16 free"),
}  # fmt: skip
CACHED = ("GPT2LMHeadModel", "GPTNeoXForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM")


@dataclass(frozen=True)
class Entry:
    """A network, its inputs by name, the axes of each that may be free, and the forms it is written in."""

    name: str
    make: Callable[[], nn.Module]
    inputs: dict[str, Tensor]
    free: dict[int, str]
    forms: tuple[str, ...]


class Text(nn.Module):
    """Tokens and mask in, the first output of a network of transformers out."""

    def __init__(self, network: nn.Module, **options: Any) -> None:
        super().__init__()
        self.network, self.options = network, options

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        result: Tensor = self.network(**given, **self.options, return_dict=False)[0]
        return result


def entries() -> Iterator[Entry]:
    """The whole zoo; a package is imported when one of its networks is made."""
    for package, table in (("torchvision", TORCHVISION), ("timm", TIMM)):
        for name, (width, *forms) in table.items():
            picture = {"image": torch.randn(2, 3, width, width)}
            yield Entry(f"{package}_{name}", _image_maker(package, name), picture, {0: "batch"}, tuple(forms))
    tokens = {"input_ids": torch.randint(1, 50, (2, 12)), "attention_mask": torch.ones(2, 12, dtype=torch.int64)}
    for name, (settings, *forms) in TEXT.items():
        maker = _text_maker(name, settings)
        yield Entry(f"transformers_{name}", maker, tokens, {0: "batch", 1: "sequence"}, tuple(forms))


def _image_maker(package: str, name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        if package == "timm":
            import timm

            return timm.create_model(name, pretrained=False)
        import torchvision  # noqa: TID251 - definitions alone, and only here

        return torchvision.models.get_model(name, weights=None)

    return make


def _text_maker(name: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        kind = getattr(transformers, name)
        config = kind.config_class(**settings)
        config._attn_implementation = "eager"
        return Text(kind(config), **({"use_cache": False} if name in CACHED else {}))

    return make


def randomize(network: nn.Module) -> None:
    """Batch norms that change what passes, as trained ones do."""
    draw = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.copy_(torch.randn(layer.num_features, generator=draw) * 0.1)
            layer.running_var.copy_(torch.rand(layer.num_features, generator=draw) + 0.5)


def write(entry: Entry, form: str, path: Path) -> None:
    """One network in one form."""
    exporter, _, freedom = form.partition(" ")
    opset, dynamo = int(exporter.removeprefix("dynamo").removeprefix("script")), exporter.startswith("dynamo")
    torch.manual_seed(0)
    network = entry.make().eval()
    with torch.no_grad():
        randomize(network)
    batch = 2 if freedom else 1  # a free batch of 1 would be taken for a constant
    inputs = tuple(value[:batch] for value in entry.inputs.values())
    options: dict[str, Any] = {}
    if freedom and dynamo:
        options["dynamic_shapes"] = [dict.fromkeys(entry.free, Dim.DYNAMIC) for _ in inputs]
    elif freedom:
        options["dynamic_axes"] = dict.fromkeys(entry.inputs, entry.free)
    if dynamo:
        options["external_data"] = False
    torch.onnx.export(network, inputs, str(path), input_names=list(entry.inputs), opset_version=opset,
                      dynamo=dynamo, verbose=False, **options)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="starts of names; all of them without")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.backends.mha.set_fastpath_enabled(False)  # it has no counterpart in ONNX
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for entry in entries():
        if asked.names and not entry.name.startswith(tuple(asked.names)):
            continue
        for form in entry.forms:
            path = asked.folder / f"{entry.name}.{form.replace(' ', '-')}.onnx"
            try:
                write(entry, form, path)
            except Exception as error:  # a package that is missing, or a network the exporter does not take
                failed += 1
                print(path.name, type(error).__name__, str(error).partition("\n")[0], file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
