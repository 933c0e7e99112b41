"""Networks, one paper a file, and the list of them."""

from closesesame.models.base import Architecture
from closesesame.models.imported import Architectures

from .kwt import KWT
from .lstm import LSTM
from .lstm_attention import LSTMAttention
from .resnet import ResNet
from .small_cnn import SmallCNN

ARCHITECTURES = Architectures(
    "model",
    Architecture,  # type: ignore[type-abstract]
    ResNet,
    SmallCNN,
    LSTM,
    LSTMAttention,
    KWT,
)

__all__ = ["ARCHITECTURES", "KWT", "LSTM", "LSTMAttention", "ResNet", "SmallCNN"]
