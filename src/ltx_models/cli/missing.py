"""Which extras are not installed, said all at once where one is missed."""

import re
from importlib.util import find_spec

# What tells that an extra is there; of the backends one is enough.
_TELLTALES = {
    ("torch", "mlx"): "torch",
    ("av",): "video",
    ("transformers", "mlx_lm"): "text",
    ("huggingface_hub",): "hub",
}


def also_missing(message: str) -> list[str]:
    """
    Name the other extras that are missing, where a message asks for one.

    Parameters
    ----------
    message : str
        Of an error.

    Returns
    -------
    list of str
        Nothing, or one line with the command that installs all.

    Examples
    --------
    >>> also_missing("no such file")
    []
    """
    asked = re.search(r"tilekit-vae\[(\w+)\]", message)
    if asked is None:
        return []
    missing = [extra for modules, extra in _TELLTALES.items() if not any(_is_there(name) for name in modules)]
    others = [extra for extra in missing if extra != asked[1]]
    if not others:
        return []
    return [
        f"also missing: {', '.join(others)}; all at once: pip install 'tilekit-vae[{','.join([asked[1], *others])}]'"
    ]


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # blocked, or half installed
        return False
