"""Settings of the documentation site: `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import mlip  # noqa: E402

project = "mlip"
author = "mlip contributors"
copyright = "2026, mlip contributors"  # noqa: A001  Sphinx reads this name
version = release = mlip.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "myst_parser", "configs", "python_api", "cells"]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
autodoc_mock_imports = ["openmm", "openmmml", "torch_sim"]  # packages of engines, not needed to build the site
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
suppress_warnings = ["myst.xref_missing.README"]

html_theme = "pydata_sphinx_theme"
html_title = "mlip"
html_theme_options = {
    "logo": {"text": "mlip"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "default",
    "pygments_dark_style": "monokai",
}
html_sidebars = {"index": []}
html_show_sourcelink = False
html_copy_source = False
