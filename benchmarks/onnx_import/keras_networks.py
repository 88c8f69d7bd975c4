"""Write small Keras networks as `.onnx` files, as tf2onnx makes them: channels last, and loops that hand weights along.

pip install tensorflow-cpu tf2onnx
python benchmarks/onnx_import/keras_networks.py FOLDER [NAME...]
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers as L


def cnn() -> Any:
    i = keras.Input((28, 28, 1))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(i)
    x = L.MaxPool2D()(x)
    x = L.SeparableConv2D(16, 3)(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU(6)(x)
    x = L.DepthwiseConv2D(3, 2, "same")(x)
    x = L.GlobalAveragePooling2D()(x)
    x = L.Dropout(0.3)(x)
    return keras.Model(i, L.Dense(10, "softmax")(x))


def resnet() -> Any:
    i = keras.Input((32, 32, 3))
    x = L.Rescaling(1 / 255)(i)
    x = L.Conv2D(8, 3, padding="same")(x)
    for w, s in ((8, 1), (16, 2)):
        y = L.BatchNormalization()(x)
        y = L.Activation("relu")(y)
        y = L.Conv2D(w, 3, s, "same")(y)
        y = L.Activation(lambda v: keras.activations.gelu(v, approximate=True))(y)
        y = L.Conv2D(w, 3, padding="same")(y)
        x = L.Add()([y, x if s == 1 else L.Conv2D(w, 1, s)(x)])
    return keras.Model(i, L.Dense(4)(L.Flatten()(x)))


def unet() -> Any:
    i = keras.Input((32, 32, 1))
    a = L.Conv2D(8, 3, padding="same", activation="elu")(i)
    b = L.Conv2D(16, 3, padding="same", activation="swish")(L.MaxPool2D()(a))
    c = L.UpSampling2D(interpolation="bilinear")(b)
    d = L.Concatenate()([a, c])
    e = L.Conv2DTranspose(8, 2, 2)(L.AveragePooling2D(2)(d))
    return keras.Model(i, L.Conv2D(1, 1, activation="sigmoid")(e))


def lstm() -> Any:
    i = keras.Input((20, 6))
    x = L.Bidirectional(L.LSTM(12, return_sequences=True))(i)
    x = L.GRU(8)(x)
    return keras.Model(i, L.Dense(3, "softmax")(x))


def simple_rnn() -> Any:
    i = keras.Input((10, 4))
    x = L.SimpleRNN(12)(i)
    return keras.Model(i, L.Dense(2)(x))


def text() -> Any:
    i = keras.Input((16,), dtype="int32")
    x = L.Embedding(50, 12)(i)
    x = L.Conv1D(16, 3, activation="relu")(x)
    x = L.GlobalMaxPooling1D()(x)
    return keras.Model(i, L.Dense(1, "sigmoid")(x))


def transformer() -> Any:
    i = keras.Input((12,), dtype="int32")
    x = L.Embedding(50, 16)(i)
    y = L.MultiHeadAttention(4, 4)(x, x)
    x = L.LayerNormalization()(x + y)
    y = L.Dense(16)(L.Dense(32, lambda v: keras.activations.gelu(v, approximate=True))(x))
    x = L.LayerNormalization()(x + y)
    return keras.Model(i, L.Dense(3)(L.GlobalAveragePooling1D()(x)))


def autoencoder() -> Any:
    i = keras.Input((20,))
    x = L.Dense(12, "tanh")(i)
    x = L.LeakyReLU(0.1)(x)
    return keras.Model(i, L.Dense(20)(x))


def mobilenet() -> Any:
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)


def mobilenet3() -> Any:
    return keras.applications.MobileNetV3Small((96, 96, 3), weights=None, classes=10)


def efficientnet() -> Any:
    return keras.applications.EfficientNetB0(input_shape=(64, 64, 3), weights=None, classes=10)


def tcn() -> Any:
    i = keras.Input((30, 4))
    x = L.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu")(i)
    x = L.SpatialDropout1D(0.1)(x)
    x = L.Conv1D(8, 3, padding="causal", dilation_rate=4)(x)
    return keras.Model(i, L.Dense(2)(x[:, -1, :]))


def se() -> Any:
    i = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 3, padding="valid", activation="hard_sigmoid")(i)
    s = L.GlobalAveragePooling2D(keepdims=True)(x)
    s = L.Conv2D(8, 1, activation="sigmoid")(s)
    x = L.Multiply()([x, s])
    x = L.ZeroPadding2D()(x)
    x = L.Cropping2D(1)(x)
    x = L.PReLU(shared_axes=[1, 2])(x)
    x = L.GroupNormalization(4)(x)
    return keras.Model(i, L.Dense(3)(L.GlobalMaxPooling2D()(x)))


def multi() -> Any:
    a = keras.Input((16, 16, 1), name="pic")
    b = keras.Input((5,), name="row")
    x = L.Flatten()(L.Conv2D(4, 3, 2)(a))
    x = L.Concatenate()([x, L.Dense(4, "softplus")(b)])
    return keras.Model([a, b], [L.Dense(2, name="c")(x), L.Dense(1, "sigmoid", name="d")(x)])


def convlstm() -> Any:
    i = keras.Input((4, 12, 12, 1))
    return keras.Model(i, L.Conv2D(1, 1)(L.ConvLSTM2D(4, 3, padding="same")(i)))


def conv3d() -> Any:
    i = keras.Input((8, 8, 8, 1))
    x = L.Conv3D(4, 3, padding="same", activation="relu")(i)
    return keras.Model(i, L.Dense(2)(L.GlobalAveragePooling3D()(L.MaxPool3D()(x))))


def superres() -> Any:
    i = keras.Input((16, 16, 1))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(i)
    x = L.Conv2D(4, 3, padding="same")(x)
    return keras.Model(i, L.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(x))


def timedist() -> Any:
    i = keras.Input((5, 8, 8, 1))
    x = L.TimeDistributed(L.Conv2D(4, 3, activation="relu"))(i)
    x = L.TimeDistributed(L.Flatten())(x)
    return keras.Model(i, L.Dense(2)(L.LSTM(8)(x)))


OPSETS = {cnn: 13, resnet: 15, unet: 11, lstm: 13, simple_rnn: 12, text: 13, transformer: 15, autoencoder: 9,
          mobilenet: 13, mobilenet3: 17, efficientnet: 13, tcn: 13, se: 18, multi: 14, convlstm: 13, conv3d: 13,
          superres: 13, timedist: 13}  # fmt: skip


def write(network: Any, opset: int, path: Path) -> None:
    """One network with a free batch; its batch norms have statistics."""
    draw = np.random.default_rng(0)
    for layer in network._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([w + np.abs(draw.normal(size=w.shape) * 0.2) for w in layer.get_weights()])
    specs = [tf.TensorSpec((None, *i.shape[1:]), i.dtype, name=f"in{n}") for n, i in enumerate(network.inputs)]
    call = tf.function(lambda *a: network(list(a) if len(a) > 1 else a[0]), input_signature=specs)
    tf2onnx.convert.from_function(call, input_signature=specs, opset=opset, output_path=str(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    for make, opset in OPSETS.items():
        if not asked.names or make.__name__ in asked.names:
            write(make(), opset, asked.folder / f"keras_{make.__name__}.opset{opset}-free.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
