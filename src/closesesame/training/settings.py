"""Settings of a training run."""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from closesesame.core import machine
from closesesame.core.method import Method

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["one_cycle", "cosine", "constant"]
Augmentation = Literal[
    "none", "light", "strong", "varied", "crowded", "varied_exchanged", "crowded_exchanged"
]


class Training(Method):
    """Settings of a training run; the defaults train a victim from fresh weights."""

    name: ClassVar[str] = "training"
    cite: ClassVar[str] = "ours"

    epochs: int = Field(15, ge=0, le=10_000, description="passes over the data")
    steps: int | None = Field(None, ge=0, le=10_000_000, description="batches in all, instead of `epochs`")
    batch_size: int = Field(64, ge=2, le=65_536, description="examples a batch; at most the whole set")
    lr: float = Field(5e-3, gt=0, le=10_000, description="highest learning rate")
    optimizer: Optimizer = Field("adamw", description="AdamW, or SGD with momentum")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    nesterov: bool = Field(False, description="Nesterov momentum, of SGD")
    weight_decay: float = Field(0.01, ge=0, le=10, description="decoupled for AdamW, L2 for SGD")
    schedule: Schedule = Field(
        "one_cycle", description="rise and fall, fall, or neither, of the learning rate over the whole run"
    )
    augmentation: Augmentation = Field("light", description="of the features")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 autocast where the hardware multiplies in it, fp32 otherwise; or as asked"
    )
    device: str = Field(
        "cpu", description="where a new model is trained and stays: cpu, cuda, cuda:N, mps, or auto for a GPU"
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="epochs without a better validation loss after which to stop; None never stops",
    )

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not machine.names_device(device):
            raise ValueError(f"must be {machine.DEVICES}, got {device!r}")
        return device

    @model_validator(mode="after")
    def _has_momentum(self) -> "Training":
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("momentum must be > 0 with nesterov, got 0")
        return self

    def for_epochs(self, epochs: int, **changes: Any) -> "Training":
        """The same for so many passes over the data instead of batches, and with other changes."""
        return self.model_copy(update={"epochs": epochs, "steps": None, **changes})
