"""Time to quality: CPU seconds until our DCGAN is as good as the classic recipe at its end.

The recipe is a straw man (README.md says so): taken as printed, it fails here.
"""

import time

import keras
import numpy as np
from keras import layers

from benchmarks import contestants
from helpers import chapters, compute, data, metrics

CLASSIC_BATCH, CLASSIC_LATENT, CLASSIC_STEPS = 128, 100, 20000
CHECK_EVERY = 200  # steps of ours between two measurements
OUR_STEPS = 10000  # at most
SAMPLES = 10000


def classic_networks():
    """The networks that the courses of this field print for MNIST: 256-128-64 and 32-64-128."""
    x = latent = keras.Input((CLASSIC_LATENT,))
    x = layers.Reshape((7, 7, 256))(layers.Dense(7 * 7 * 256)(x))
    for width, stride in ((128, 2), (64, 1)):
        x = layers.Conv2DTranspose(width, 3, strides=stride, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.01)(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="tanh")(x)
    generator = keras.Model(latent, x)
    y = image = keras.Input(contestants.IMAGE_SHAPE)
    for width in (32, 64, 128):
        y = layers.Conv2D(width, 3, strides=2, padding="same")(y)
        y = layers.BatchNormalization()(y) if width > 32 else y
        y = layers.LeakyReLU(negative_slope=0.01)(y)
    return generator, keras.Model(image, layers.Dense(1)(layers.Flatten()(y)))


def _fid(images) -> float:
    features = metrics.load_classifier("mnist").features(images)
    return metrics.fid(metrics.real_features("mnist"), features)


class _UntilGood(keras.callbacks.Callback):
    """Measures now and then, outside of the clock, and stops at the goal."""

    def __init__(self, goal: float, latent):
        super().__init__()
        self.goal, self.latent, self.log = goal, latent, []
        self.seconds = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.process_time() - self._started
        value = _fid(self.model.generate(self.latent))
        self.log.append(((epoch + 1) * CHECK_EVERY, self.seconds, value))
        print(
            f"ours: step {self.log[-1][0]}, {self.seconds:.0f} CPU s, FID {value:.2f}", flush=True
        )
        self.model.stop_training = value <= self.goal


def measure(minutes: float) -> dict:
    """Run the classic recipe for so many minutes, then ours until it is as good."""
    keras.utils.set_random_seed(0)
    images, rng = data.load("mnist", "train")[0], np.random.default_rng(0)
    generator, discriminator = classic_networks()
    parts = (generator, discriminator)
    train = contestants.classic("DCGAN", images, CLASSIC_BATCH, parts, rate=1e-3)
    started, cpu, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < 60 * minutes and steps < CLASSIC_STEPS:
        train(20)
        steps += 20
    cpu = time.process_time() - cpu
    latent = rng.standard_normal((SAMPLES, CLASSIC_LATENT)).astype(np.float32)
    goal = _fid(data.from_symmetric(generator.predict(latent, batch_size=500, verbose=0)))
    print(f"classic: {steps} steps, {cpu:.0f} CPU s, FID {goal:.2f}", flush=True)

    chapter = chapters.import_chapter("04_dcgan")
    keras.utils.set_random_seed(0)
    gan = chapter.AveragedGAN(*contestants.networks("DCGAN"), 0)
    adam = [keras.optimizers.Adam(2e-3, beta_1=0.5, beta_2=0.99) for _ in range(2)]
    losses = (chapter.chapter3.generator_loss, chapter.chapter3.discriminator_loss)
    gan.compile(*adam, losses=losses, **compute.compile_options(CHECK_EVERY))
    latent = rng.standard_normal((SAMPLES, contestants.LATENT)).astype(np.float32)
    until, epochs = _UntilGood(goal, latent), OUR_STEPS // CHECK_EVERY
    batches = data.batches(images, contestants.BATCH, 0)
    gan.fit(batches, epochs=epochs, steps_per_epoch=CHECK_EVERY, verbose=0, callbacks=[until])
    return {
        "classic_batch": CLASSIC_BATCH,
        "classic_asks": CLASSIC_STEPS,
        "classic_steps": steps,
        "classic_cpu_seconds": cpu,
        "classic_fid": goal,
        "minutes": minutes,
        "ours": until.log,
    }
