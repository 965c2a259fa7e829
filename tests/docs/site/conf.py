"""Sphinx's settings for the site, after those that "antsibull-docs sphinx-init" writes."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

project = "qemu.guest_agent"
copyright = "the qemu.guest_agent maintainers"  # noqa: A001  # Sphinx names it
extensions = ["sphinx_antsibull_ext"]
highlight_language = "YAML+Jinja"
default_role = "any"
nitpicky = True

html_title = "qemu.guest_agent"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_use_index = False
# Sources of pages are generated, or elsewhere in the repository; antsibull-docs links to the latter.
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}
pygments_style = "ansible"
pygments_dark_style = "github-dark"

_ANSIBLE = "https://docs.ansible.com/ansible/latest/"
_CONFIG = f"{_ANSIBLE}reference_appendices/config.html"

# Pages of Ansible's documentation that generated pages refer to. An inventory of its site would need a network.
_ELSEWHERE = {
    "ansible_configuration_settings": _CONFIG,
    "common_return_values": f"{_ANSIBLE}reference_appendices/common_return_values.html",
    "ansible_collections.ansible.builtin.constructed_inventory": (
        f"{_ANSIBLE}collections/ansible/builtin/constructed_inventory.html"
    ),
}
# Variables that Ansible documents on that page.
_VARIABLES = frozenset(
    (
        "ANSIBLE_CACHE_PLUGIN",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION",
        "ANSIBLE_CACHE_PLUGIN_PREFIX",
        "ANSIBLE_CACHE_PLUGIN_TIMEOUT",
        "ANSIBLE_PIPELINING",
        "ANSIBLE_TIMEOUT",
    )
)


def _resolve(app: Sphinx, environment: BuildEnvironment, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Return a link to Ansible's documentation, or to a page by its title. None makes a missing reference an error."""
    target = node["reftarget"]
    address = f"{_CONFIG}#envvar-{target}" if target in _VARIABLES else _ELSEWHERE.get(target)
    if address is not None:
        return nodes.reference("", "", content, refuri=address, internal=False)
    # Generated pages have a comment between label and title, so Sphinx does not assign the title to the label.
    page, anchor = environment.domains.standard_domain.anonlabels.get(target, ("", ""))
    if node.get("reftype") != "ref" or page not in environment.titles:
        return None
    title = nodes.inline("", environment.titles[page].astext())
    return make_refnode(app.builder, node["refdoc"], page, anchor, title)


# The theme shows the contents beside each page, and a red notice on pages that also contain them.
_WANTED_WITHIN = "this-will-duplicate-information-and-it-is-still-useful-here"


def _drop_contents(_app: Sphinx, document: nodes.document) -> None:
    for topic in list(document.findall(nodes.topic)):
        if "contents" in topic["classes"] and _WANTED_WITHIN not in topic["classes"]:
            topic.parent.remove(topic)
            for title in document.findall(nodes.title):
                title.attributes.pop("refid", None)  # a link to the removed entry


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", _resolve)
    app.connect("doctree-read", _drop_contents)
