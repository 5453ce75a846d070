"""The book: every page opened in a browser without a network, its texts, links and live pages.

Without Chromium or Chrome the tests that open pages are left out; where ``CI`` is set they fail.
"""

import json
import os
import pathlib
import re
import shutil
import urllib.parse

import bs4
import nbformat
import numpy as np
import pytest
from test_notebooks import CHAPTERS, NOT_EXECUTED_SINCE, SOLUTIONS

from tools import book, pages

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ELSEWHERE = (  # where the installers of macOS and Windows put it
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
FIVE = (
    "index.html",
    "notebooks/04_dcgan.html",
    "notebooks/solutions/02_autoencoder.html",
    "docs/symbols.html",
    "live/game.html",
)
INSIDE = ("file:", "data:", "blob:", "about:")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1400, "height": 1000}
PATIENCE = 180  # seconds that a page may take on a machine with other work
MADE = [name for name in book.LIVE if f"live/{name}.weights.js" in book.listed()]
walk = pytest.mark.skipif(
    "latent_walk" not in MADE,
    reason="The walk has no weights yet: python -m tools.train_live latent_walk makes them.",
)
LIVE_BYTES = 3 * 10**6


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book, built once."""
    out = tmp_path_factory.mktemp("site") / "book"
    book.build(out)
    return out


@pytest.fixture(scope="module")
def html(site):
    """{page: its parsed HTML}, without the pages that Sphinx makes for itself."""
    paths = sorted(site.rglob("*.html"))
    found = {path.relative_to(site).as_posix(): path for path in paths}
    return {
        name: bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for name, path in found.items()
        if name not in ("genindex.html", "search.html") and not name.startswith("_static")
    }


@pytest.fixture(scope="module")
def browser():
    """A Chromium that finds no name of a host."""
    found = [shutil.which(name) for name in BROWSERS]
    found += [path for path in ELSEWHERE if pathlib.Path(path).is_file()]
    paths = [path for path in found if path]
    if not paths and os.environ.get("CI"):
        pytest.fail("There is no Chromium: .ci/run installs it, apt-get install chromium too.")
    if not paths:
        pytest.skip("The book's pages were not opened: install Chromium or Chrome to test them.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=paths[0], args=list(OPTIONS), timeout=1000 * PATIENCE
        )
        yield started
        started.close()


@pytest.fixture
def visit(browser, site):
    """Open pages: ``visit(page, **how)`` gives a page of Playwright; what goes wrong fails."""
    contexts, wrong = [], []

    def visit(name, **how):
        contexts.append(browser.new_context(offline=True, **({"viewport": DESK} | how)))
        contexts[-1].set_default_timeout(1000 * PATIENCE)
        page = contexts[-1].new_page()
        page.on("request", lambda r: r.url.startswith(INSIDE) or wrong.append((name, r.url)))
        page.on("pageerror", lambda error: wrong.append((name, str(error))))
        if how.get("java_script_enabled", True):  # else the scripts are not even asked for
            page.on("requestfailed", lambda r: wrong.append((name, "not found", r.url)))
        page.goto(f"{site.as_uri()}/{name}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not wrong


# The build


def test_each_chapter_has_its_page_its_card_and_its_files(site, html):
    cards = html["index.html"].select("li.card")
    for path in CHAPTERS:
        name = f"notebooks/{path.stem}"
        assert f"{name}.html" in html
        assert (site / f"{name}.ipynb").read_bytes() == path.read_bytes()
        (card,) = [card for card in cards if card.find("a", href=f"{name}.html")]
        assert len(card.find("p").text.split()) > 5
        if nbformat.read(path, as_version=4).metadata.get("course"):  # it was executed
            assert card.img and card.select_one(".measured strong").text.strip()
        files = [link["href"] for link in html[f"{name}.html"].select(".files a")]
        assert files[0] == path.name and f"../colab/{path.name}" in files
    for path in SOLUTIONS:
        assert f"notebooks/solutions/{path.stem}.html" in html


def test_the_metadata_of_the_front_page_name_what_is_there():
    for path in CHAPTERS:
        notebook = nbformat.read(path, as_version=4)
        told = notebook.metadata.get("book")
        if told is None:  # a new chapter: its first picture and number have to do
            continue
        assert told.keys() <= {"sentence", "results", "picture"}
        assert told["sentence"][-1] in ".?" and len(told["sentence"].split()) < 30
        assert "picture" not in told or told["picture"] in [cell.id for cell in notebook.cells]
        if "course" in notebook.metadata:  # it was executed
            assert set(told["results"]) <= notebook.metadata["course"]["results"].keys()


def test_the_files_that_are_not_written_by_hand_are_those_of_the_list(monkeypatch, tmp_path):
    assert book.altered() == []
    vendored = [*(book.SOURCES / "vendor").iterdir(), *book.SOURCES.glob("live/*.weights.js")]
    paths = {path.relative_to(book.SOURCES).as_posix() for path in vendored}
    assert paths == book.listed().keys()
    live = sum(path.stat().st_size for path in (book.SOURCES / "live").glob("*.js"))
    assert live <= LIVE_BYTES
    monkeypatch.setattr(book, "listed", lambda: {"vendor/mermaid.js": {"sha256": "0" * 64}})
    with pytest.raises(book.BookProblem, match=r"^vendor/mermaid\.js in docs/book is missing or"):
        book.build(tmp_path / "book")


def test_a_folder_that_is_not_the_book_stays(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert book.main(["--out", str(tmp_path)]) == 1
    assert "holds something that is not the book" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


# What stands in the pages


def test_each_picture_has_a_text(html):
    waiting = {f"notebooks/{name}.html" for name in NOT_EXECUTED_SINCE} | {"index.html"}
    for name, page in html.items():
        for image in page.find_all("img"):
            text = image.get("alt", "")
            assert len(text.split()) >= 3, (name, image["src"], text)
            assert not re.search(r"\.(png|gif|jpe?g|svg)\b", text), (name, text)
            assert text != pages.NO_TEXT or name in waiting, (name, image["src"])


def test_the_text_of_a_picture_comes_from_its_output_or_its_code():
    code = 'plots.show("One " "text.")\nplots.image_grid(x, alt="Another.")\nplots.show(f"{x}")'
    assert pages.texts_in_code(code) == ["One text.", "Another."]
    assert pages.texts_in_code("%matplotlib inline") == []


def test_each_page_has_one_title(html):
    for name, page in html.items():
        assert len(page.find_all("h1")) == 1, name


def test_tables_have_headers(html):
    for name, page in html.items():
        for table in page.select(".bd-article table"):
            heads = table.find_all("th")
            assert heads, name
            assert all(head.get_text(strip=True) for head in heads), (name, str(table)[:300])


def test_links_lead_somewhere(site, html):
    ids = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in html.items()}
    for name, page in html.items():
        for tag, key in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for target in [found[key] for found in page.find_all(tag) if found.get(key)]:
                address = urllib.parse.urlsplit(target)
                if address.scheme or target.startswith("#"):
                    assert tag == "a" or address.scheme == "data", (name, target)
                    continue
                path = (site / name).parent / urllib.parse.unquote(address.path)
                assert path.is_file(), (name, target)
                other = path.resolve().relative_to(site.resolve()).as_posix()
                if address.fragment and other in ids:
                    assert address.fragment in ids[other], (name, target)


def test_answers_are_folded(html):
    for path in SOLUTIONS:
        page = html[f"notebooks/solutions/{path.stem}.html"]
        exercises = [section for section in page.select("section section") if section.h2]
        assert exercises
        for section in exercises:
            (answer,) = section.select("details.answer")
            assert not answer.has_attr("open") and answer.select(".highlight")
        assert not page.select_one("nav.bd-links details.answer")


# In the browser


@pytest.fixture(scope="module")
def seen(browser, site, html):
    """{page: what a reader with a telephone and no network meets there}."""
    context = browser.new_context(viewport=PHONE, offline=True)
    context.set_default_timeout(1000 * PATIENCE)
    found = {}
    for name in html:
        page, wrong = context.new_page(), []
        page.on("request", lambda r, w=wrong: r.url.startswith(INSIDE) or w.append(r.url))
        page.on("requestfailed", lambda r, w=wrong: w.append(f"not found: {r.url}"))
        page.on("pageerror", lambda error, w=wrong: w.append(str(error)))
        page.goto((site / name).as_uri())
        if html[name].select("pre.mermaid"):
            page.wait_for_function("document.body.dataset.drawn === 'yes'")
        if html[name].select(".math"):
            page.wait_for_function("window.MathJax?.startup?.promise !== undefined")
            page.evaluate("MathJax.startup.promise")
        found[name] = page.evaluate(
            """() => {
            const texts = [...document.querySelectorAll("pre.mermaid svg")];
            return {
              width: document.documentElement.scrollWidth,
              titles: [...document.querySelectorAll("h1")].filter((h) => h.offsetHeight).length,
              formulas: document.querySelectorAll("mjx-container").length,
              broken: document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
              drawn: texts.length,
              described: texts.filter((d) => d.querySelector("title, desc")).length,
              errors: texts.filter((d) => d.textContent.includes("Syntax error")).length,
              unreachable: [...document.querySelectorAll(
                "figure.picture, pre, .scrolls, .pst-scrollable-table-container")].filter(
                (box) => box.scrollWidth > box.clientWidth + 1 && box.tabIndex < 0).length,
            };}"""
        )
        found[name]["wrong"] = wrong
        page.close()
    context.close()
    return found


def test_no_page_asks_for_anything_from_outside(seen):
    assert {name: page["wrong"] for name, page in seen.items() if page["wrong"]} == {}


def test_nothing_pans_the_whole_page_on_a_telephone(seen):
    assert {n: p["width"] for n, p in seen.items() if p["width"] > PHONE["width"]} == {}
    assert {n: p["unreachable"] for n, p in seen.items() if p["unreachable"]} == {}


def test_formulas_and_drawings_are_drawn(seen, html):
    for name, page in seen.items():
        assert page["titles"] == 1, name
        assert page["formulas"] == len(html[name].select(".math")), name
        assert page["drawn"] == len(html[name].select("pre.mermaid")), name
        assert page["broken"] == page["errors"] == 0, name
        if name.startswith("notebooks/"):
            assert page["described"] == page["drawn"], name


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FIVE)
def test_axe_finds_nothing_serious(visit, name, theme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(name, color_scheme=theme)
    page.wait_for_load_state("load")
    page.evaluate("window.MathJax?.startup?.promise")
    for summary in page.locator("details.answer > summary").all():
        summary.click()
    # Axe would read the style sheets once more, which a browser refuses to scripts from file://.
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    found = {
        violation["id"]: [node["html"][:200] for node in violation["nodes"]][:3]
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    }
    assert found == {}


def test_an_animation_can_be_stopped(visit):
    moving = "figure.animation img"
    page = visit("notebooks/04_dcgan.html")
    assert page.locator(moving).first.get_attribute("src").endswith(".gif")
    page.get_by_role("button", name="Stop the animation").first.press("Enter")
    assert page.locator(moving).first.get_attribute("src").endswith(".png")
    page.get_by_role("button", name="Play the animation").first.press("Enter")
    assert page.locator(moving).first.get_attribute("src").endswith(".gif")
    page = visit("notebooks/04_dcgan.html", reduced_motion="reduce")
    assert page.locator(moving).first.get_attribute("src").endswith(".png")


def test_the_search_finds_pages(visit):
    page = visit("search.html?q=autoencoder")
    page.wait_for_selector("ul.search li")
    assert "Autoencoders" in page.locator("ul.search").inner_text()


@pytest.mark.parametrize("name", MADE)
def test_without_javascript_there_is_a_picture(visit, name):
    page = visit(f"live/{name}.html", java_script_enabled=False)
    picture = page.locator(".live noscript img")
    assert len(picture.get_attribute("alt").split()) > 3


# The live pages against Keras


def description(page: str) -> dict:
    """Return the networks of a live page, as its script of weights has them."""
    text = (book.SOURCES / "live" / f"{page}.weights.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.networks_of_page = ").rstrip().rstrip(";"))


def rebuilt(page: str, network: str):
    """Return a network of a live page as a Keras model."""
    from tools import train_live  # imports TensorFlow, which the other tests do not need

    return train_live.rebuilt(description(page)[network])


def test_networks_come_back_as_they_were_described(rng):
    from helpers import chapters
    from tools import train_live

    generator = chapters.import_chapter("04_dcgan").build_generator(64)
    again = train_live.rebuilt(train_live.described(generator))
    codes = rng.normal(size=(3, 64)).astype("float32")
    expected = generator.predict(codes, verbose=0)
    np.testing.assert_allclose(again.predict(codes, verbose=0), expected, atol=2e-3)


def test_the_plane_shows_what_keras_decodes(visit, rng):
    decoder = rebuilt("latent_plane", "decoder")
    codes = rng.uniform(-3, 3, (50, 2)).astype("float32")
    expected = 1 / (1 + np.exp(-decoder.predict(codes, verbose=0).reshape(50, -1)))
    page = visit("live/latent_plane.html")
    shown = page.evaluate("codes => codes.map(c => [...digitAt(...c)])", codes.tolist())
    assert np.abs(np.array(shown) - expected).max() < 1e-4  # of the way from black to white
    assert expected.std(axis=0).max() > 0.2  # the digits differ


@walk
def test_the_walk_shows_what_keras_generates(visit, rng):
    generator = rebuilt("latent_walk", "generator")
    codes = rng.normal(size=(20, generator.input_shape[1])).astype("float32")
    expected = (generator.predict(codes, verbose=0).reshape(20, -1) + 1) / 2
    page = visit("live/latent_walk.html")
    shown = page.evaluate("codes => codes.map(c => [...imageOf(c)])", codes.tolist())
    assert np.abs(np.array(shown) - expected).max() < 1e-4
    assert expected.std(axis=0).max() > 0.2


@pytest.mark.parametrize("saturating", [False, True], ids=["non-saturating", "minimax"])
def test_the_game_moves_as_chapter_1_does(visit, rng, saturating):
    """Three moves of both players: the same losses, and the same weights afterwards."""
    import keras

    from helpers import chapters

    chapter = chapters.import_chapter("01_introduction")
    players = {name: rebuilt("game", name) for name in ("generator", "discriminator")}
    generator, discriminator = players["generator"], players["discriminator"]
    loss = chapter.minimax_loss if saturating else chapter.non_saturating_loss
    step = chapter.make_step(generator, discriminator, loss, 1e-3, seed=7)
    drawn = keras.random.SeedGenerator(7)  # the same draws as inside of the step
    page, losses, shown = visit("live/game.html"), [], []
    rates = {"saturating": saturating, "generatorRate": 1e-3, "discriminatorRate": 1e-3}
    for _ in range(3):
        real = chapter.draw_numbers(rng, 64)
        codes = [np.ravel(keras.random.normal((64, 1), seed=drawn)).tolist() for _ in range(2)]
        losses.append(step(real).numpy())
        moved = "([real, codes, rates]) => game.step(Float32Array.from(real), "
        moved += "...codes.map(c => Float32Array.from(c)), rates)"
        shown.append(page.evaluate(moved, [real.ravel().tolist(), codes, rates]))
    np.testing.assert_allclose(shown, losses, atol=1e-4)
    for name, player in players.items():
        weights = page.evaluate(f"game.{name}.layers.flatMap(l => [[...l.kernel], [...l.bias]])")
        for ours, keras_weight in zip(weights, player.get_weights(), strict=True):
            np.testing.assert_allclose(ours, keras_weight.ravel(), atol=1e-4)


def test_the_game_is_played_by_keyboard(visit):
    page = visit("live/game.html")
    assert page.locator("#said").inner_text().startswith("Step 0.")
    page.locator("#one").press("Enter")
    assert page.locator("#said").inner_text().startswith("Step 1.")
    page.locator("#generator-rate").press("ArrowRight")
    assert page.locator("#generator-rate-said").inner_text() == "0.0013"
    page.locator("#play").press("Enter")
    page.wait_for_function("game.steps > 20")
    page.locator("#play").press("Enter")
    steps = page.evaluate("game.steps")
    page.wait_for_timeout(100)
    assert page.evaluate("game.steps") == steps
    page.locator("#again").press("Enter")
    assert page.locator("#said").inner_text().startswith("Step 0.")


def test_the_game_finds_the_real_numbers(visit):
    page = visit("live/game.html")
    js = "() => { for (let i = 0; i < 1500; i++) advance(); draw(); return history.at(-1)[1]; }"
    assert page.evaluate("jensenShannon(smoothed(game.generator.forward(SHOWN_CODES)))") > 0.4
    assert page.evaluate(js) < 0.05


def test_the_plane_follows_pointer_and_keys(visit):
    page = visit("live/latent_plane.html")
    box = page.locator("#plane").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    first, second = map(float, re.findall(r"-?[\d.]+", page.locator("#said").inner_text()))
    assert abs(first - 1.5) < 0.1 and abs(second - 1.5) < 0.1
    page.locator("#second").press("ArrowLeft")
    assert f"{second - 0.05:.2f}" in page.locator("#said").inner_text()


@walk
def test_the_walk_goes_on_by_keyboard(visit):
    page = visit("live/latent_walk.html")
    picture = "document.getElementById('{}').toDataURL()"
    before = page.evaluate(picture.format("digit"))
    page.locator("#place").press("End")
    assert page.locator("#said").inner_text() == "100 % of the way"
    assert page.evaluate(picture.format("digit")) != before
    strip = page.evaluate(picture.format("strip"))
    page.locator("#new-end").press("Enter")
    assert page.evaluate(picture.format("strip")) != strip
    page.locator("#walking").press("Enter")
    page.wait_for_function("document.getElementById('said').textContent !== '100 % of the way'")
    page.locator("#walking").press("Enter")
