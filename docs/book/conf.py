"""Sphinx's settings for the book; ``python -m tools.book`` prepares its pages and calls it."""

import pathlib

HERE = pathlib.Path(__file__).resolve().parent

project = html_title = "Hands-on GANs"
author = "The authors of Hands-on GANs"
copyright = "2026, the authors, MIT licence"
extensions = ["myst_nb"]
root_doc = "index"
exclude_patterns = ["extra"]

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
mathjax_path = "mathjax.js"
mathjax3_config = {"options": {"enableMenu": False}}

html_theme = "sphinx_book_theme"
html_theme_options = {
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "show_toc_level": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_static_path = [str(HERE / "static"), str(HERE / "vendor")]
html_extra_path = []  # tools/book.py names the folder
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which browsers refuse from file://
html_last_updated_fmt = None
templates_path = [str(HERE / "templates")]
