"""The door: TensorFlow started for a training, and learners and vectorisers from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.records.keras_archive import inspect_archive
from storage.records.training import TextPreparation, TrainingSpec
from workers.runtime.framework import Framework, start
from workers.runtime.learning.architectures import text_layer_of
from workers.runtime.learning.heads import head_of
from workers.runtime.learning.learner import KerasLearner
from workers.runtime.learning.measuring import Gauges, measured_of
from workers.runtime.learning.memory import within_memory
from workers.runtime.learning.names import made
from workers.runtime.learning.networks import build
from workers.runtime.learning.optimizers import optimizer_of
from workers.runtime.learning.refusals import LOSS, NETWORK
from workers.runtime.learning.texts import KerasVectorizer, VersionVectorizer
from workers.training.ports import Learner, Prepared, Vectorizer, VectorizerOf

DETERMINISTIC_THREADS = 2
"""Sums are cut into as many parts as there are threads, so their last bits depend on that."""

_TOO_LARGE = (
    "the network's weights, with what the optimizer keeps of each, do not fit into the device's"
    " memory: take a smaller network, or an optimizer that keeps less, such as sgd"
)


@dataclass(frozen=True, slots=True)
class Learning:
    """What only TensorFlow can do for a training. ``open_learner`` is an ``OpenLearner``,
    ``vectorizer_of`` a ``VectorizerOf``."""

    framework: Framework

    def open_learner(
        self, spec: TrainingSpec, prepared: Prepared, artifact: Path | None
    ) -> Learner:
        """As the port says. The spec's seed decides about first weights and dropout."""
        with within_memory(self.framework, _TOO_LARGE, NETWORK):
            return self._opened(spec, prepared, artifact)

    def _opened(self, spec: TrainingSpec, prepared: Prepared, artifact: Path | None) -> Learner:
        self.framework.keras.utils.set_random_seed(spec.seed)
        head = head_of(spec.loss, prepared)
        losses = self.framework.keras.losses
        loss = made(losses, "keras.losses", spec.loss, "loss", ("bad_loss", LOSS))
        optimizer = optimizer_of(self.framework, spec.optimizer, spec.schedule)
        measured = measured_of(prepared, head)
        model = build(self.framework, spec, prepared, head, artifact)
        return KerasLearner(
            self.framework,
            model,
            optimizer,
            loss,
            lambda: Gauges(self.framework, spec.metrics, measured),
            prepared.features,
            spec.deterministic,
        )

    def vectorizer_of(self, text: TextPreparation) -> Vectorizer:
        """Learns a vocabulary of its own."""
        return KerasVectorizer(self.framework, text)

    def vectorizer_of_version(self, artifact: Path) -> VectorizerOf:
        """For a version to train on: vectorisers that keep to its vocabulary, if it has one."""
        with artifact.open("rb") as file:
            inspect_archive(file)
        keras = self.framework.keras
        model = keras.saving.load_model(artifact, compile=False, safe_mode=True)
        layer = text_layer_of(self.framework, model)
        if layer is None:
            return self.vectorizer_of
        vocabulary = tuple(layer.get_vocabulary()[2:])
        return lambda text: VersionVectorizer(self.framework, text, vocabulary)


def open_learning(
    device: str = "cpu",
    threads: int | None = None,
    deterministic: bool = False,
    seed: int = 0,
) -> Learning:
    """Start TensorFlow, once per process; takes seconds. ``deterministic`` can not be taken
    back in this process: the same steps then give the same bits, also on a machine with more or
    fewer cores. For that the number of threads is fixed, whatever ``threads`` says."""
    framework = start(device, DETERMINISTIC_THREADS if deterministic else threads)
    if deterministic:
        framework.tf.config.experimental.enable_op_determinism()
    framework.keras.utils.set_random_seed(seed)
    return Learning(framework)
