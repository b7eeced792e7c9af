"""Sphinx settings of the documentation site. `build.py` prepares the pages and runs Sphinx."""

project = "rec_assets"
author = "rec_assets contributors"
extensions = ["myst_parser"]
myst_heading_anchors = 4  # sections have the same anchors as on GitHub
html_theme = "furo"
html_title = "rec_assets"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
html_last_updated_fmt = None  # the same pages give the same site
nitpicky = True
suppress_warnings = ["misc.highlighting_failure"]  # examples may leave out lines with …
