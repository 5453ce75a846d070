"""Callbacks: samples while training, and resume after a real kill -9."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from helpers import callbacks, files

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A small GAN with everything that has a state: batch statistics, dropout, latent noise, two
# optimizers, a moving average of the weights. It says after each epoch what it has done.
TRAINING = """
import hashlib, pathlib, sys, time
from helpers import callbacks, experiment
experiment.start("smoke", 7, deterministic=True)
import keras, numpy as np, tensorflow as tf
from keras import layers

class GAN(keras.Model):
    def __init__(self):
        super().__init__()
        self.random = keras.random.SeedGenerator(7)
        self.generator = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8), layers.BatchNormalization(), layers.Dense(3)])
        self.average = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8), layers.BatchNormalization(), layers.Dense(3)])
        self.discriminator = keras.Sequential(
            [keras.Input((3,)), layers.Dense(8, "relu"), layers.Dropout(0.3, seed=1),
             layers.Dense(1)])

    def compile(self):
        super().compile(jit_compile=False)
        self.generator_optimizer = keras.optimizers.Adam(1e-3)
        self.discriminator_optimizer = keras.optimizers.Adam(1e-3)
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def train_step(self, real):
        latent = keras.random.normal((10, 4), seed=self.random)
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(latent, training=True)
            fake_logits = self.discriminator(fake, training=True)
            real_logits = self.discriminator(real, training=True)
            loss = tf.reduce_mean(tf.nn.softplus(-real_logits) + tf.nn.softplus(fake_logits))
            generator_loss = tf.reduce_mean(tf.nn.softplus(-fake_logits))
        for part, value, optimizer in (
            (self.discriminator, loss, self.discriminator_optimizer),
            (self.generator, generator_loss, self.generator_optimizer)):
            weights = part.trainable_variables
            optimizer.apply(tape.gradient(value, weights), weights)
        for slow, fast in zip(self.average.weights, self.generator.weights):
            slow.assign(0.9 * slow + 0.1 * fast)
        return {"discriminator_loss": loss, "generator_loss": generator_loss}

class Say(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("epoch", epoch + 1, flush=True)
        if slow: time.sleep(0.4)

folder, slow = sys.argv[1], sys.argv[2] == "slow"
images = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
order = np.random.default_rng(1).integers(0, 100, (200, 10))
gan = GAN()
gan.compile()
resume = callbacks.Resume(gan, folder, tag="test")
batches = tf.data.Dataset.from_tensor_slices(images[order[resume.step:]])
history = gan.fit(batches, epochs=8, steps_per_epoch=20, initial_epoch=resume.epoch, verbose=0,
                  callbacks=[resume, Say()]).history
digest = hashlib.sha256()
for owner in (gan, gan.generator_optimizer, gan.discriminator_optimizer):
    for variable in owner.variables:
        digest.update(np.asarray(variable).tobytes())
print("losses", [round(v, 9) for v in history["generator_loss"]])
print("state", digest.hexdigest())
"""


def start(folder, speed="fast"):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(folder), speed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-2000:]
    return out.splitlines()


def test_a_killed_training_ends_exactly_where_an_undisturbed_one_does(tmp_path):
    process = start(tmp_path / "killed", "slow")
    for line in process.stdout:
        if line.startswith("epoch 3"):
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
            break
    process.wait()
    undisturbed = finish(start(tmp_path / "whole"))
    resumed = finish(start(tmp_path / "killed"))
    epochs = [line for line in resumed if line.startswith("epoch")]
    assert epochs == [f"epoch {n}" for n in range(4, 9)], "no epoch is lost or done twice"
    assert resumed[-2:] == undisturbed[-2:], "the same history and the same state, bit by bit"


def built_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def train(model, folder, epochs, **options):
    resume = callbacks.Resume(model, folder, **options)
    x = np.zeros((4, 2), np.float32)
    y = np.ones((4, 3), np.float32)
    model.fit(x, y, batch_size=2, initial_epoch=resume.epoch, epochs=epochs, verbose=0,
              callbacks=[resume])  # fmt: skip
    return resume


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    train(built_model(), tmp_path, 3)
    for path in tmp_path.glob("ckpt-3.data*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    resume = callbacks.Resume(built_model(), tmp_path)
    assert (resume.epoch, resume.step) == (2, 4)
    for path in tmp_path.glob("ckpt-*.data*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"No checkpoint in .* delete the folder"):
        callbacks.Resume(built_model(), tmp_path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(built_model(), tmp_path, 1, tag="laptop 0")
    with pytest.raises(ValueError, match="belongs to another run"):
        callbacks.Resume(built_model(), tmp_path, tag="laptop 1")
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    other.compile("sgd", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="belongs to another run"):
        callbacks.Resume(other, tmp_path, tag="laptop 0")


def test_an_optimizer_without_state_is_refused_in_time(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="optimizer is not built"):
        callbacks.Resume(model, tmp_path)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resume = train(built_model(), None, 2)
    assert resume.epoch == 2 and not list(tmp_path.iterdir())


def test_a_finished_training_keeps_its_history(tmp_path):
    train(built_model(), tmp_path, 3)
    model = built_model()
    resume = callbacks.Resume(model, tmp_path)
    model.fit(np.zeros((4, 2)), np.ones((4, 3)), initial_epoch=resume.epoch, epochs=3, verbose=0,
              callbacks=[resume])  # fmt: skip
    assert len(model.history.history["loss"]) == 3


def test_the_last_two_checkpoints_are_kept(tmp_path):
    train(built_model(), tmp_path, 11)
    (tmp_path / "checkpoint").write_bytes(b"")  # TensorFlow's own list: a power cut empties it
    (tmp_path / "ckpt-mine.index").write_bytes(b"")
    assert {path.name for path in tmp_path.glob("ckpt-*.index")} == {
        "ckpt-mine.index", "ckpt-10.index", "ckpt-11.index",
    }  # fmt: skip
    assert callbacks.Resume(built_model(), tmp_path).epoch == 11


def test_what_a_stop_in_the_middle_of_saving_leaves_is_passed_over(tmp_path):
    train(built_model(), tmp_path, 2)
    (tmp_path / "ckpt-3.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "ckpt-3_temp").mkdir()
    assert train(built_model(), tmp_path, 3).epoch == 3
    assert callbacks.Resume(built_model(), tmp_path).epoch == 3


def test_the_home_folder(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    train(built_model(), "~/checkpoints", 1)
    assert not list((tmp_path / "here").iterdir())
    assert (tmp_path / "home" / "checkpoints" / "ckpt-1.index").is_file()


def test_a_folder_that_cannot_be_made_is_said_before_the_training(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(files.StorageError, match=r"file.a cannot be made .*: give another one"):
        callbacks.Resume(built_model(), tmp_path / "file" / "a")


def test_a_full_disk_does_not_stop_the_training(tmp_path, capsys):
    """The limit is the system's own, for the size of a file: writing beyond it fails."""
    resource = pytest.importorskip("resource")
    train(built_model(), tmp_path, 2)
    model = built_model()
    resume = callbacks.Resume(model, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        model.fit(np.zeros((4, 2)), np.ones((4, 3)), initial_epoch=resume.epoch, epochs=5,
                  verbose=0, callbacks=[resume])  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "The checkpoint of epoch 3 cannot be written" in said
    assert "that of epoch 2 is kept, and the training goes on." in said
    assert len(model.history.history["loss"]) == 5
    assert callbacks.Resume(built_model(), tmp_path).epoch == 2


def test_a_folder_that_vanishes_does_not_stop_the_training(tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    model = built_model()
    resume = callbacks.Resume(model, folder)
    shutil.rmtree(folder)
    folder.write_bytes(b"")
    model.fit(np.zeros((4, 2)), np.ones((4, 3)), epochs=3, verbose=0, callbacks=[resume])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "there is none, and the training goes on." in said


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_measure_every_counts_over_several_trainings(steps_per_execution):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    seen = []

    def measure(measured):
        seen.append(measured)
        return len(seen)

    watch = callbacks.MeasureEvery(measure, every=8)
    x, y = np.zeros((120, 2)), np.zeros((120, 1))
    for _ in range(2):
        model.fit(x, y, batch_size=10, epochs=1, verbose=0, callbacks=[watch])
    assert watch.steps == [8, 16, 24] and watch.values == [1, 2, 3]
    assert all(measured is model for measured in seen)


def test_measurements_and_samples_of_a_resumed_training_go_on_counting():
    model = built_model()
    watch = callbacks.MeasureEvery(lambda model: 0, every=4, start=6)
    grid = callbacks.SampleGrid(lambda: np.zeros((1, 2, 2, 1)), every=4, start=6)
    x, y = np.zeros((4, 2), np.float32), np.ones((4, 3), np.float32)
    model.fit(x, y, batch_size=2, epochs=6, initial_epoch=3, verbose=0, callbacks=[watch, grid])
    assert watch.steps == [8, 12] and grid.steps == [6, 8, 12]


def test_measure_every_needs_a_distance():
    with pytest.raises(ValueError, match="every is 0"):
        callbacks.MeasureEvery(lambda model: 0, every=0)


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_sample_grid_takes_a_frame_every_so_many_steps(steps_per_execution):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    grid = callbacks.SampleGrid(lambda: np.zeros((4, 2, 2, 1)), every=8)
    model.fit(np.zeros((120, 2)), np.zeros((120, 1)), batch_size=10, epochs=2, verbose=0,
              callbacks=[grid])  # fmt: skip
    assert grid.steps == [0, 8, 16, 24]
    assert grid.frames[0].shape == (5, 5, 1)


def test_sample_grid_needs_a_distance():
    with pytest.raises(ValueError, match="every is 0"):
        callbacks.SampleGrid(lambda: None, every=0)


def test_progress_is_quiet_outside_a_notebook(capsys):
    model = built_model()
    model.fit(np.zeros((4, 2)), np.ones((4, 3)), verbose=0, callbacks=[callbacks.Progress()])
    assert capsys.readouterr().out == ""
