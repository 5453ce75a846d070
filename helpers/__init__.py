"""The course's plumbing: data, profiles, plots, metrics, callbacks and results.

Import this package before TensorFlow (any ``from helpers import ...`` does): it quietens
TensorFlow's start-up messages, which would otherwise stand above the first picture.
"""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
# Keras warns that fit's default shuffle=True is not used with a tf.data.Dataset: ours is shuffled.
warnings.filterwarnings("ignore", message="`shuffle=True` was passed")
