"""Taken up by each Python that a tested server starts: refuses every address but this machine's, and notes it."""

import os
import sys
from pathlib import Path
from typing import Any

LOCAL = {"127.0.0.1", "::1", "localhost", "0.0.0.0", "", None}


def watch(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in {"socket.connect", "socket.sendto"} and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in LOCAL:
        with Path(os.environ["LTX_WEB_ASKED"]).open("a") as file:
            file.write(f"{event} {host}\n")
        msg = f"no network in this test: {event} {host}"
        raise OSError(msg)


if "LTX_WEB_ASKED" in os.environ:  # not where the tests themselves are collected
    sys.addaudithook(watch)
