"""What a package page shows: README with links that work there, and the addresses of the project.

Hatchling asks while it builds. Both follow from one setting, ``repository`` in ``pyproject.toml``: with an address,
links of README that are relative become absolute; without one they become plain text, and pictures are left out.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_PICTURE = re.compile(
    r"^!\[(?P<told>[^\]]*)\]\((?P<target>[^)\s]+)\)$(?:\n\n(?P<caption>\*[^*\n]+\*)$)?\n*", re.MULTILINE
)
_LINK = re.compile(r"(?<!!)\[(?P<told>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:")


def package_page(readme: str, repository: str, branch: str) -> str:
    """
    Give README as a package page shows it.

    Parameters
    ----------
    readme : str
        The text, in Markdown.
    repository : str
        The address of the repository, without a slash at its end; empty where there is none.
    branch : str
        The branch or tag whose files are linked.

    Returns
    -------
    str
        The text without comments, relative links and relative pictures.

    Examples
    --------
    >>> package_page("See [the docs](docs/a.md#b).", "https://example.org/x", "main")
    'See [the docs](https://example.org/x/blob/main/docs/a.md#b).'
    >>> package_page("See [the docs](docs/a.md#b).", "", "main")
    'See the docs.'
    """

    def picture(match: re.Match[str]) -> str:
        if _ABSOLUTE.match(match["target"]):
            return match[0]
        if not repository:
            return ""
        caption = f"\n\n{match['caption']}" if match["caption"] else ""
        return f"![{match['told']}]({repository}/raw/{branch}/{match['target']}){caption}\n\n"

    def link(match: re.Match[str]) -> str:
        if _ABSOLUTE.match(match["target"]):
            return match[0]
        return f"[{match['told']}]({repository}/blob/{branch}/{match['target']})" if repository else match["told"]

    return _LINK.sub(link, _PICTURE.sub(picture, _COMMENT.sub("", readme)))


def addresses(repository: str, branch: str) -> dict[str, str]:
    """
    Give the addresses of the project, as ``[project.urls]`` would have them.

    Parameters
    ----------
    repository : str
        As of `package_page`.
    branch : str
        As of `package_page`.

    Returns
    -------
    dict of str to str
        None without a repository.
    """
    if not repository:
        return {}
    files = f"{repository}/blob/{branch}"
    return {
        "Repository": repository,
        "Documentation": f"{files}/docs/index.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


class PackagePage(MetadataHookInterface):
    """The hook that hatchling calls."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set what depends on the address."""
        repository, branch = self.config["repository"].rstrip("/"), self.config["branch"]
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        shown = package_page(text, repository, branch)
        metadata["readme"] = {"content-type": "text/markdown", "text": shown}
        metadata["urls"] = addresses(repository, branch)
