"""Sphinx settings of the documentation. `bash scripts/docs.sh` builds it."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

project = "pd_trl"
author = "The pd_trl contributors"
copyright = "The pd_trl contributors, Apache-2.0"
version = release = re.search(r'"(.+)"', (DOCS.parent / "pd_trl" / "_version.py").read_text()).group(1)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",
    "docstrings",
    "mathml",
    "pages",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
exclude_patterns = ["_build", "_ext"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False

html_theme = "furo"
html_title = "pd_trl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
# The site asks no other server for anything: formulas are set by the browser (MathML).
html_math_renderer = "mathml"
