"""Generators as TensorFlow Hub modules: export one, load one from an address, a folder or data/.

Models are programs: a module may do whatever TensorFlow can, also read and write files. Load none
from a place that you do not trust.

A module is a SavedModel with the signature of the public ``progan-128``: ``default`` takes latent
codes (n, latent_dim), float32, and gives images (n, h, w, 3) in [0, 1] under the name ``default``.
"""

import contextlib
import hashlib
import json
import pathlib
import shutil
import urllib.parse

import tensorflow as tf

from helpers import files

PUBLIC = "https://tfhub.dev/google/progan-128/1"  # faces of celebrities, 128 x 128
EMBEDDED = "garments-32"  # the course's own module, in data/hub/
SIGNATURE = "default"
CARD = "card.json"
GRAPH = "saved_model.pb"
LARGEST = 2**30  # bytes of a module, packed or not
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CANNOT_LOAD = (OSError, ValueError, RuntimeError, KeyError, TypeError, tf.errors.OpError)


class HubError(RuntimeError):
    """A module could not be had or is not one; the message says what to do."""


class _NoModule(HubError):
    """What is there is no generator module, and will be none at the next try either."""


class Module:
    """A generator that came from a module: latent codes (n, latent_dim) -> (n, h, w, 3) in [0, 1].

    Attributes:
        source: the address or folder that it came from.
        loaded: what ``tf.saved_model.load`` returned.
        latent_dim: numbers in a latent code.
        card: what the exporter wrote down about it; empty for a module without a card.
    """

    def __init__(self, source: str, folder: pathlib.Path):
        self.source = source
        try:
            self.loaded = tf.saved_model.load(str(folder))  # as tensorflow_hub.load does
            self._signature = self.loaded.signatures[SIGNATURE]
            ((self._key, spec),) = self._signature.structured_input_signature[1].items()
            self.latent_dim = int(spec.shape[1])
            shape = self._signature.structured_outputs[SIGNATURE].shape
            if spec.dtype != tf.float32 or len(spec.shape) != 2 or len(shape) != 4:
                raise ValueError("other shapes")
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise HubError(
                f"There is too little memory for {source}: close other programs or notebooks, or "
                "use the embedded module."
            ) from None
        except CANNOT_LOAD as error:
            if isinstance(error, OSError):
                files.check_storage(error, folder)
            raise _NoModule(
                f"{source} is no generator module ({type(error).__name__}): give one whose "
                f"signature {SIGNATURE!r} turns latent codes (n, d) into images (n, h, w, 3)."
            ) from None
        self.card = {}
        with contextlib.suppress(OSError, ValueError):
            self.card = json.loads((folder / CARD).read_text(encoding="utf-8"))

    def __call__(self, latent) -> tf.Tensor:
        """Generate images: a tensor (n, h, w, 3), differentiable if the module is.

        Raises:
            ValueError: the latent codes have another shape.
        """
        latent = tf.convert_to_tensor(latent, tf.float32)
        if latent.shape.rank != 2 or latent.shape[1] != self.latent_dim:
            raise ValueError(
                f"The latent codes have shape {tuple(latent.shape)}: give (n, {self.latent_dim})."
            )
        return self._signature(**{self._key: latent})[SIGNATURE]


def export(network, latent_dim: int, folder, card: dict | None = None) -> pathlib.Path:
    """Store a generator as a module.

    Args:
        network: a Keras model, latent codes (n, latent_dim) -> images (n, h, w, 1 or 3) in
            [-1, 1]. Its layers must have gradients that TensorFlow knows: a ``tf.custom_gradient``
            is lost on the way, and nobody could look for latent codes.
        latent_dim: numbers in a latent code.
        folder: where to (``~`` is the home folder); it must not exist yet.
        card: what a user should know (how it was trained, its FID); stored as ``card.json``.

    Returns:
        The folder.

    Raises:
        HubError: the folder exists, or the network gives images of another shape.
    """
    folder = files.user_path(folder)
    if folder.exists():
        raise HubError(f"{folder} exists already: give a new folder, or delete this one.")
    shape = network.output_shape
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise HubError(f"The network gives {shape}: it must give images (n, h, w, 1 or 3).")
    latent = tf.TensorSpec((None, latent_dim), tf.float32, name=SIGNATURE)

    @tf.function(input_signature=[latent])
    def generate(codes):
        images = tf.clip_by_value((network(codes, training=False) + 1) / 2, 0.0, 1.0)
        return {SIGNATURE: tf.repeat(images, 3 // shape[-1], axis=-1)}

    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]  # not Keras' own functions
    module.generate = generate
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: generate})
    with contextlib.suppress(OSError):
        (folder / "fingerprint.pb").unlink()
        (folder / "assets").rmdir()
    if card is not None:
        text = json.dumps(card, indent=1) + "\n"
        (folder / CARD).write_text(text, encoding="utf-8", newline="\n")
    return folder


def _compressed(address: str) -> str:
    """Return the address of the packed module: Hub's query is added to what is there."""
    parts = urllib.parse.urlsplit(address)
    query = [*urllib.parse.parse_qsl(parts.query), ("tf-hub-format", "compressed")]
    return urllib.parse.urlunsplit(parts._replace(query=urllib.parse.urlencode(query)))


def fetch(address: str, sha256: str | None = None, **options) -> pathlib.Path:
    """Return the folder of a module from the network; it is downloaded and unpacked once.

    Args:
        address: as on Hub, such as ``PUBLIC``. A module is a program: over http, where anybody on
            the way could exchange it, its ``sha256`` is asked for.
        sha256: of the packed module, hexadecimal digits; None trusts the server.
        options: timeout and attempts, as in ``helpers.files.download``.

    Raises:
        HubError: there is no network or no such module, the disk is full, or what came is broken or
            no SavedModel; then nothing of it stays in the cache.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK and not sha256:
        raise HubError(
            f"{address} is not encrypted, and a module is a program: give an https address, or the "
            "packed module's sha256 too."
        )
    name = hashlib.sha256(f"{address}{sha256 or ''}".encode()).hexdigest()[:16]
    folder = files.CACHE / "hub" / name
    packed = folder.with_name(f"{name}.tar.gz")
    if folder.is_dir():
        return folder
    try:
        files.download(_compressed(address), sha256, packed, limit=LARGEST, **options)
        files.extract(packed, folder, limit=LARGEST)
    except files.ArchiveError:
        raise HubError(
            f"{address} sent a broken archive, and nothing of it was kept: call again, or use the "
            "embedded module."
        ) from None
    except files.DataError as error:
        raise HubError(str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            packed.unlink()
    if not (folder / GRAPH).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        raise HubError(
            f"{address} sent an archive without {GRAPH}, and nothing of it was kept: give the "
            "address of a TensorFlow Hub module."
        )
    return folder


def embedded(name: str = EMBEDDED) -> pathlib.Path:
    """Return the folder of a module of ``data/hub/`` after every file of it was checked.

    Raises:
        helpers.files.DataError: a file is missing, damaged or not in the manifest.
    """
    paths = [path for path in files.manifest() if path.startswith(f"hub/{name}/")]
    for relative in paths or [f"hub/{name}/{GRAPH}"]:
        files.checked_path(relative)
    return files.DATA / "hub" / name


def load(source: str = "embedded", **options) -> Module:
    """Load a generator module.

    Args:
        source: ``"embedded"`` (the course's own), ``"public"`` (``PUBLIC``), an address that begins
            with https://, or a folder (``~`` is the home folder).
        options: sha256, timeout and attempts of a download.

    Raises:
        HubError: the module cannot be had, or is none. What was downloaded and is no module does
            not stay in the cache.
        helpers.files.DataError: a file of the embedded module is missing or damaged.
    """
    source = PUBLIC if source == "public" else str(source)
    if source == "embedded":
        return Module(f"data/hub/{EMBEDDED}", embedded())
    if not source.startswith(("https://", "http://")):
        return Module(source, files.user_path(source))
    folder = fetch(source, **options)
    try:
        return Module(source, folder)
    except _NoModule:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def load_or_embedded(source: str, **options) -> Module:
    """Load a module; where it cannot be had, say why in a sentence and load the embedded one."""
    try:
        return load(source, **{"attempts": 2, "timeout": 15.0} | options)
    except HubError as error:
        print(f"{error} The embedded module is used.")
        return load("embedded")
