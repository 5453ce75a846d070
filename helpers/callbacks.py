"""Callbacks for ``fit``: a quiet progress line, samples while training, resume after a kill."""

import contextlib
import json
import pathlib
import time

import keras
import tensorflow as tf

from helpers import files, plots

_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # where tf.train.Checkpoint keeps a variable's value


def _numbers(logs) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}


class Progress(keras.callbacks.Callback):
    """One line that is drawn again in place; a notebook that is executed keeps its last state.

    While training it shows the epoch, the time that is left and the losses, at most twice a
    second; at the end only the losses. Use it with ``verbose=0``.
    """

    def on_train_begin(self, logs=None):
        self._started, self._first, self._drawn = time.monotonic(), None, 0.0
        self._line = files.ProgressLine()

    def on_epoch_begin(self, epoch, logs=None):
        self._first = epoch if self._first is None else self._first

    def on_epoch_end(self, epoch, logs=None):
        now, total = time.monotonic(), self.params["epochs"]
        self._last = f"epoch {epoch + 1} of {total}" + "".join(
            f"  {name.replace('_', ' ')} {value:.4g}" for name, value in _numbers(logs).items()
        )
        if now - self._drawn > 0.5:
            self._drawn = now
            left = (now - self._started) / (epoch + 1 - self._first) * (total - epoch - 1)
            self._line.show(f"{self._last}  ({left:.0f} s left)")

    def on_train_end(self, logs=None):
        if self._first is not None:
            self._line.show(self._last, end="\n")


class SampleGrid(keras.callbacks.Callback):
    """Keeps a grid of samples every so many steps.

    Args:
        sample: function without arguments that returns images (n, h, w, 1 or 3) in [0, 1]; give
            it a fixed latent code, so that the frames show the same images growing up.
        every: steps between two frames; the state before the first step is a frame too.
        columns: images in a row.
        start: steps that were done before (of a resumed training: ``resume.step``).

    Attributes:
        frames: the grids so far, arrays of shape (h', w', 1 or 3) in [0, 1].
        steps: the training step of each frame.
    """

    def __init__(self, sample, every: int, columns: int | None = None, start: int = 0):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}: give a number of steps from 1.")
        self.sample, self.every, self.columns = sample, every, columns
        self.frames, self.steps = [], []
        self._step = start

    def _take(self):
        self.frames.append(plots.tile(self.sample(), self.columns))
        self.steps.append(self._step)

    def on_train_begin(self, logs=None):
        self._base = self._step
        if not self.frames:
            self._take()

    def on_epoch_begin(self, epoch, logs=None):
        self._base = self._step

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution the calls are further apart than one step.
        before, self._step = self._step, self._base + batch + 1
        if before // self.every != self._step // self.every:
            self._take()

    def show(self, seconds_per_frame: float = 0.2, scale: int = 1, alt: str | None = None):
        """Show the frames as an animation."""
        plots.animation(self.frames, seconds_per_frame, scale, alt=alt)


class MeasureEvery(keras.callbacks.Callback):
    """Calls ``measure(model)`` every so many steps, also over several trainings.

    Args:
        measure: function from the model to a number (or whatever should be kept).
        every: steps between two measurements; the state before the first step is not measured.
        start: steps that were done before (of a resumed training: ``resume.step``).

    Attributes:
        steps: the training step of each measurement, counted over all trainings.
        values: what ``measure`` returned.
    """

    def __init__(self, measure, every: int, start: int = 0):
        super().__init__()
        if every < 1:
            raise ValueError(f"every is {every}: give a number of steps from 1.")
        self.measure, self.every = measure, every
        self.steps, self.values = [], []
        self._step = start

    def on_epoch_begin(self, epoch, logs=None):
        self._base = self._step

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution the calls are further apart than one step.
        before, self._step = self._step, self._base + batch + 1
        if before // self.every != self._step // self.every:
            self.steps.append(self._step)
            self.values.append(self.measure(self.model))


class Resume(keras.callbacks.Callback):
    """Checkpoints at the end of epochs, and goes on from there after the process was killed.

    Everything that the next step depends on is in one checkpoint: all variables of the model
    (weights, batch statistics, moving averages, seed generators, metrics), every optimizer that
    is an attribute of the model, the epoch, the step and the history. ``tf.train.Checkpoint``
    writes it whole or not at all; the one before is kept, and is
    used when the latest is damaged. Where one cannot be written (a full disk), a sentence says so
    and the training goes on.

    Create it after ``compile`` (optimizers must be built), then:

        fit(data.batches(images, size, seed, start=resume.step), initial_epoch=resume.epoch,
            callbacks=[resume], ...)

    Args:
        model: the model that will be fitted.
        folder: where the checkpoints are (``~`` is the home folder); None switches everything off.
        tag: what the run depends on (profile, seed, sizes); a checkpoint of another tag is
            refused.
        every: epochs between two checkpoints.

    Attributes:
        epoch: epochs that are done.
        step: steps that are done.

    Raises:
        ValueError: the folder's checkpoint was made by another model or another tag, or none of
            its checkpoints can be read.
        helpers.files.StorageError: the folder cannot be made.
    """

    def __init__(self, model: keras.Model, folder, tag: str = "", every: int = 1):
        super().__init__()
        self.epoch = self.step = 0
        self.every, self._past = every, {}
        self._folder = self._saved = None
        if folder is None or folder == "":
            return
        optimizers = {
            name: value
            for name, value in vars(model).items()
            if isinstance(value, keras.optimizers.Optimizer)
        }
        if len(optimizers) > 1 and not model.optimizer.built:
            del optimizers["optimizer"]  # the one that compile makes when none is given
        for name, optimizer in optimizers.items():
            if not optimizer.built:
                raise ValueError(f"{name} is not built: call {name}.build(variables) in compile.")
        variables = [v for owner in (model, *optimizers.values()) for v in owner.variables]
        shapes = [f"{tuple(v.shape)} {v.dtype}" for v in variables]
        self._state = {"tag": tag, "variables": shapes}
        self._note = tf.Variable("", dtype=tf.string, trainable=False)
        values = {f"v{i:04d}": v.value for i, v in enumerate(variables)}
        self._checkpoint = tf.train.Checkpoint(note=self._note, **values)
        self._folder = files.make_folder(folder)
        self._restore()

    def _checkpoints(self) -> list[str]:
        """Return the checkpoints in the folder, without endings, the newest first."""
        found = [path.with_suffix("") for path in self._folder.glob("ckpt-*.index")]
        numbered = [path for path in found if path.name[5:].isdigit()]
        return sorted(map(str, numbered), key=lambda path: int(path[path.rindex("-") + 1 :]))[::-1]

    def _restore(self):
        paths, damage = self._checkpoints(), None
        for path in paths:
            try:
                note = json.loads(tf.train.load_variable(path, f"note/{_VALUE}"))
                if any(note[name] != self._state[name] for name in self._state):
                    raise ValueError(
                        f"The checkpoint in {self._folder} belongs to another run (other sizes, "
                        "profile, seed or code): name another folder, or delete this one."
                    )
                self._checkpoint.read(path).assert_existing_objects_matched()
            except (tf.errors.OpError, RuntimeError, IndexError) as error:
                damage = error
                continue
            self.epoch, self.step, self._past = note["epoch"], note["step"], note["history"]
            self._saved = self.epoch
            return
        if paths:
            raise ValueError(
                f"No checkpoint in {self._folder} can be read ({type(damage).__name__}): delete "
                "the folder to start from the beginning."
            )

    def on_train_begin(self, logs=None):
        for name, values in self._past.items():
            self.model.history.history[name] = list(values)

    def on_train_batch_end(self, batch, logs=None):
        self._in_epoch = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.step = epoch + 1, self.step + self._in_epoch
        for name, value in _numbers(logs).items():
            self._past.setdefault(name, []).append(value)
        if self._folder and (self.epoch % self.every == 0 or self.epoch == self.params["epochs"]):
            progress = {"epoch": self.epoch, "step": self.step, "history": self._past}
            self._note.assign(json.dumps({**self._state, **progress}))
            self._save()

    def _save(self):
        try:
            self._checkpoint.write(str(self._folder / f"ckpt-{self.epoch}"))
        except (OSError, tf.errors.OpError) as error:
            if self._saved != "failed":
                reason = str(error).splitlines()[0]
                kept = f"that of epoch {self._saved} is kept" if self._saved else "there is none"
                print(
                    f"The checkpoint of epoch {self.epoch} cannot be written to {self._folder} "
                    f"({reason}): make room there; {kept}, and the training goes on."
                )
            self._saved = "failed"
            return
        self._saved = self.epoch
        for old in self._checkpoints()[2:]:
            for path in self._folder.glob(f"{pathlib.Path(old).name}.*"):
                with contextlib.suppress(OSError):
                    path.unlink()
