"""What notebooks show of plans."""

from html import escape

__all__ = ["ShownAsText"]


class ShownAsText:
    """Shows the text of an object in a notebook, line by line."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"
