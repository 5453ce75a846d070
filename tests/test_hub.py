"""Modules of TensorFlow Hub: export, and loading from a local server that packs them like Hub."""

import hashlib
import http.server
import io
import json
import tarfile
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub

from helpers import files
from helpers.sources import hub

LATENT = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
CARD = {"title": "a tiny generator", "fid": 12.5}


def tiny_network(channels=1):
    keras.utils.set_random_seed(3)
    latent = keras.Input((5,))
    x = keras.layers.Dense(4 * 4 * channels, activation="tanh")(latent)
    return keras.Model(latent, keras.layers.Reshape((4, 4, channels))(x))


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    return hub.export(network, 5, tmp_path_factory.mktemp("module") / "tiny", CARD)


@pytest.fixture(scope="module")
def packed(folder):
    """The module as Hub sends it: a tar.gz with ``saved_model.pb`` at its root."""
    path = folder.with_name("tiny.tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "./")
    return path.read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends a packed module to who asks for the compressed format, and a page to a browser."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        address, _, query = self.path.partition("?")
        body = self.server.modules.get(address)
        if address.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", f"{address.removeprefix('/moved')}?{query}")
            return self.end_headers()
        if body is None:
            return self.send_error(404)
        if "tf-hub-format=compressed" not in query.split("&"):
            body = b"<html>A page about this module.</html>"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-tar-gz")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(packed):
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads, made.requests = True, []
    made.modules = {"/someone/tiny/1": packed}
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(download_cache):
    return download_cache


def paths(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def refuses(message, source, **options):
    with pytest.raises(hub.HubError, match=message) as caught:
        hub.load(source, **options)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and ". " not in text.removesuffix("."), text


def expected(network, latent):
    images = (network(latent).numpy() + 1) / 2
    return np.repeat(images, 3 // images.shape[-1], axis=-1)


# export


def test_a_module_has_the_signature_of_the_public_one(folder, network):
    module = tensorflow_hub.load(str(folder))
    signature = module.signatures["default"]
    _, inputs = signature.structured_input_signature
    (spec,) = inputs.values()
    assert spec.shape.as_list() == [None, 5] and spec.dtype == tf.float32
    outputs = signature.structured_outputs
    assert list(outputs) == ["default"] and outputs["default"].shape.as_list() == [None, 4, 4, 3]
    images = signature(tf.constant(LATENT))["default"]  # as Hub's own tutorial calls it
    np.testing.assert_allclose(images, expected(network, LATENT), atol=1e-6)


def test_a_module_is_small_and_carries_its_card(folder):
    names = {path.relative_to(folder).as_posix() for path in paths(folder)}
    variables = {"variables/variables.index", "variables/variables.data-00000-of-00001"}
    assert names == {"saved_model.pb", "card.json"} | variables
    assert json.loads((folder / "card.json").read_text(encoding="utf-8")) == CARD
    assert hub.load(str(folder)).card == CARD


def test_colours_stay_colours(tmp_path):
    network = tiny_network(3)
    module = hub.load(str(hub.export(network, 5, tmp_path / "colour")))
    np.testing.assert_allclose(module(LATENT), expected(network, LATENT), atol=1e-6)
    assert module.card == {}


def test_a_module_is_differentiable_with_respect_to_the_latent_code(folder, network):
    """Against the network that was exported, and against differences."""
    module, latent = hub.load(str(folder)), tf.constant(LATENT)
    weights = np.random.default_rng(1).normal(size=(3, 4, 4, 3)).astype(np.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(latent)
        loss = tf.reduce_sum(weights * module(latent))
        same = tf.reduce_sum(weights * tf.image.grayscale_to_rgb((network(latent) + 1) / 2))
    gradient = tape.gradient(loss, latent)
    np.testing.assert_allclose(gradient, tape.gradient(same, latent), atol=1e-5)
    step = np.zeros_like(LATENT)
    step[1, 2] = 1e-2
    up, down = (np.sum(weights * module(LATENT + sign * step)) for sign in (1, -1))
    assert float(gradient[1, 2]) == pytest.approx((up - down) / 2e-2, rel=1e-2)


def test_export_refuses_an_existing_folder_and_other_outputs(folder, network, tmp_path):
    with pytest.raises(hub.HubError, match="exists already: give a new folder"):
        hub.export(network, 5, folder)
    latent = keras.Input((5,))
    flat = keras.Model(latent, keras.layers.Dense(4)(latent))
    with pytest.raises(hub.HubError, match=r"must give images \(n, h, w, 1 or 3\)"):
        hub.export(flat, 5, tmp_path / "flat")


@pytest.mark.parametrize("shape", [(3, 4), (5,), (1, 3, 5)])
def test_latent_codes_of_another_shape_are_refused(folder, shape):
    with pytest.raises(ValueError, match=r"give \(n, 5\)"):
        hub.load(str(folder))(np.zeros(shape, np.float32))


# From the network


@pytest.mark.parametrize("way", ["", "/moved"])
def test_a_module_comes_packed_from_its_address_and_only_once(server, network, cache, way):
    address = f"{server.url}{way}/someone/tiny/1"
    module = hub.load(address)
    assert server.requests[-1] == "/someone/tiny/1?tf-hub-format=compressed"
    np.testing.assert_allclose(module(LATENT), expected(network, LATENT), atol=1e-6)
    assert module.source == address and module.card == CARD
    assert {path.name for path in (cache / "hub").iterdir()} == {hub.fetch(address).name}
    count = len(server.requests)
    hub.load(address)
    assert len(server.requests) == count


def test_an_address_with_a_query_keeps_it(server, packed):
    hub.fetch(f"{server.url}/someone/tiny/1?version=2")
    assert server.requests == ["/someone/tiny/1?version=2&tf-hub-format=compressed"]


def tar_of(**members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_what_is_broken_is_refused_and_leaves_the_cache_clean(server, packed, cache):
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    outside = tar_of(saved_model__pb=b"x", **{"../evil": b"x"})
    for body, message in (
        (packed[: len(packed) // 2], "sent a broken archive, and nothing of it was kept"),
        (bytes(damaged), "sent a broken archive"),
        (b"<html>Please log in.</html>", "sent a broken archive"),
        (b"", "sent a broken archive"),
        (outside, "sent a broken archive"),
        (tar_of(readme__txt=b"hello"), r"an archive without saved_model\.pb"),
        (tar_of(saved_model__pb=b"no graph"), "is no generator module"),
    ):
        server.modules["/someone/broken/1"] = body
        refuses(message, f"{server.url}/someone/broken/1")
        assert not list((cache / "hub").iterdir()), message
    server.modules["/someone/broken/1"] = packed  # repaired on the server: works at once
    assert hub.load(f"{server.url}/someone/broken/1").latent_dim == 5


def test_no_network_and_no_such_module(server, cache):
    refuses("the server answers 404", f"{server.url}/someone/else/1")
    server.shutdown()
    server.server_close()
    refuses("check the address and the network", f"{server.url}/someone/tiny/1", attempts=1)
    assert not paths(cache)


def test_a_folder_that_is_no_module_is_refused(tmp_path):
    refuses("is no generator module", str(tmp_path))
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec((), tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "double"))
    refuses("turns latent codes", str(tmp_path / "double"))


@pytest.mark.parametrize("address", ["http://example.org/m/1", "http://10.0.0.1/localhost"])
def test_a_program_is_not_taken_from_an_open_line(address, cache):
    refuses("is not encrypted, and a module is a program", address)
    assert not paths(cache)


def test_a_module_with_a_sha256(server, packed, cache):
    address = f"{server.url}/someone/tiny/1"
    digest = hashlib.sha256(packed).hexdigest()
    assert hub.load(address, sha256=digest).latent_dim == 5
    with pytest.raises(hub.HubError, match="is not the expected file"):
        hub.load(address, sha256="0" * 64)


def test_too_little_memory_keeps_what_was_downloaded(server, monkeypatch, cache):
    address = f"{server.url}/someone/tiny/1"
    hub.load(address)

    def exhausted(folder):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(tf.saved_model, "load", exhausted)
    refuses("There is too little memory for", address)
    monkeypatch.undo()
    monkeypatch.setattr(files, "CACHE", cache)
    count = len(server.requests)
    assert hub.load(address).latent_dim == 5 and len(server.requests) == count


def test_a_cache_that_cannot_be_made(own_data, server, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(files, "CACHE", tmp_path / "file" / "cache")
    monkeypatch.setattr(hub, "PUBLIC", f"{server.url}/someone/tiny/1")
    assert hub.load_or_embedded("public").source == f"data/hub/{hub.EMBEDDED}"
    assert "cannot be made" in capsys.readouterr().out


def test_the_home_folder(network, monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert hub.export(network, 5, "~/module") == tmp_path / "module"
    assert hub.load("~/module").latent_dim == 5


# The embedded module


@pytest.fixture
def own_data(monkeypatch, tmp_path, folder):
    """A folder data/ whose embedded module is the tiny one."""
    root = tmp_path / "data"
    target = root / "hub" / hub.EMBEDDED
    entries = {}
    for path in paths(folder):
        relative = path.relative_to(folder).as_posix()
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        (target / relative).write_bytes(path.read_bytes())
        digest = files.sha256(path)
        entry = {"sha256": digest, "bytes": path.stat().st_size}
        entries[f"hub/{hub.EMBEDDED}/{relative}"] = entry
    (root / "manifest.json").write_text(json.dumps({"files": entries}), encoding="utf-8")
    monkeypatch.setattr(files, "DATA", root)
    return target


def test_without_a_network_the_embedded_module_is_used(own_data, monkeypatch, capsys):
    monkeypatch.setattr(hub, "PUBLIC", "http://127.0.0.1:9/google/progan-128/1")
    module = hub.load_or_embedded("public", attempts=1)
    assert module.source == f"data/hub/{hub.EMBEDDED}" and module.card == CARD
    said = capsys.readouterr().out
    assert said.startswith("http://127.0.0.1:9/google/progan-128/1?tf-hub-format=compressed cannot")
    assert said.endswith(" The embedded module is used.\n") and said.count("\n") == 1


def test_an_altered_or_missing_file_of_the_embedded_module_is_noticed(own_data):
    path = own_data / "saved_model.pb"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    with pytest.raises(files.DataError, match="has been altered"):
        hub.load()
    path.unlink()
    with pytest.raises(files.DataError, match=r"saved_model\.pb is missing: restore it"):
        hub.load()


def test_a_module_that_is_not_in_the_manifest_is_not_used():
    with pytest.raises(files.DataError, match="does not list hub/unknown"):
        hub.embedded("unknown")
