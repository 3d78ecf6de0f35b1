"""Optimisers, with one kernel for a variable's update where TensorFlow has one.

Keras spells an update of Adam as a dozen operations on whole arrays; of a large layer each is a
walk through memory. The fused kernels do the same arithmetic in one walk.
"""

from __future__ import annotations

from typing import Any

from storage.records.errors import InvalidInput
from storage.records.training import Named
from workers.runtime.framework import Framework
from workers.runtime.learning.names import class_of, made
from workers.runtime.learning.refusals import OPTIMIZER, SCHEDULE

_OPTIMIZERS, _SCHEDULES = "keras.optimizers", "keras.optimizers.schedules"
_BAD_OPTIMIZER, _BAD_SCHEDULE = ("bad_optimizer", OPTIMIZER), ("bad_schedule", SCHEDULE)


def optimizer_of(framework: Framework, named: Named, schedule: Named | None) -> Any:
    """The optimiser; its learning rate follows the schedule, counted in steps, if there is one."""
    module = framework.keras.optimizers
    said = named.arguments
    if said.get("use_ema") and not said.get("ema_overwrite_frequency"):
        raise InvalidInput(
            "use_ema needs ema_overwrite_frequency: nothing else puts the means into the weights",
            code="bad_optimizer",
            field=f"{OPTIMIZER}.use_ema",
        )
    optimizer = made(module, _OPTIMIZERS, named, "optimizer", _BAD_OPTIMIZER)
    if schedule is not None:
        rate = float(optimizer.learning_rate)
        found = class_of(module.schedules, _SCHEDULES, schedule.name)
        arguments: dict[str, Any] = dict(schedule.arguments)
        if found is not None and found.__name__ != "PiecewiseConstantDecay":
            arguments.setdefault("initial_learning_rate", rate)
        follows = made(
            module.schedules,
            _SCHEDULES,
            Named(schedule.name, arguments),
            "schedule",
            _BAD_SCHEDULE,
        )
        optimizer = made(
            module,
            _OPTIMIZERS,
            Named(named.name, {k: v for k, v in said.items() if k != "learning_rate"}),
            "optimizer",
            _BAD_OPTIMIZER,
            {"learning_rate": follows},
        )
    return _fused(framework, optimizer)


def _fused(framework: Framework, optimizer: Any) -> Any:
    """The same optimiser, whose variables are updated by one kernel each."""
    name = type(optimizer).__name__
    maker = {"Adam": _fused_adam, "AdamW": _fused_adam, "SGD": _fused_sgd}.get(name)
    if maker is None or getattr(optimizer, "amsgrad", False):
        return optimizer
    # Its class is changed before it is built: it has no state yet but what its maker was told.
    optimizer.__class__ = maker(framework, type(optimizer))
    return optimizer


def _fused_adam(framework: Framework, base: Any) -> type:
    tf = framework.tf

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index, dtype = self._get_variable_index(variable), variable.dtype
        step = tf.cast(self.iterations + 1, dtype)  # no variable where gradients are gathered
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
        )

    return type(base.__name__, (base,), {"update_step": update_step})


def _fused_sgd(framework: Framework, base: Any) -> type:
    tf = framework.tf

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = variable.dtype
        rate = tf.cast(learning_rate, dtype)
        if isinstance(gradient, tf.IndexedSlices) and not self.momentum:
            base.update_step(self, gradient, variable, learning_rate)  # of few rows only
            return
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        if not self.momentum:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, dtype),
            use_nesterov=bool(self.nesterov),
        )

    return type(base.__name__, (base,), {"update_step": update_step})
