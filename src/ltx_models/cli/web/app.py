"""The server: folder, queue, networks and page put together, behind the guard."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ltx_models.cli.web.comparing import Comparing
from ltx_models.cli.web.desk import Desk
from ltx_models.cli.web.folder import Folder
from ltx_models.cli.web.guard import Guard, is_local
from ltx_models.cli.web.hold import hold
from ltx_models.cli.web.page import FONTS, head, page
from ltx_models.cli.web.queue import Queue
from ltx_models.cli.web.studio import Studio
from ltx_models.media import MediaError
from tilekit._run.leftovers import alive

INSTALL = "the page needs Gradio; install it with: pip install 'tilekit-vae[web]'"


def serve(args: argparse.Namespace) -> None:
    """
    Serve the page until the process is told to stop.

    Parameters
    ----------
    args : Namespace
        Of ``ltx-models serve``.

    Raises
    ------
    ImportError
        If Gradio is not installed.
    ValueError
        If a token or address is none.
    MediaError
        If the folder cannot be written, or another server has it.
    OSError
        If the address is taken.
    """
    local = is_local(args.host)
    token = _token(args.token, local=local)
    folder = Folder(args.folder)
    held = hold(folder.root)
    _keep_inside(folder)
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ModuleNotFoundError as error:
        raise ImportError(INSTALL) from error
    studio = Studio(folder, Queue(folder), Desk(args, folder), Comparing(args), args.max_upload)
    toy = args.checkpoint_path is None and args.transformer_path is None
    app = assembled(studio, token, local=local, toy=toy, address=(args.host, args.port))
    config = uvicorn.Config(app, host=args.host, port=args.port, log_level="warning", lifespan="on")
    server = _Announcing.of(uvicorn.Server, config, _address(args.host, args.port, token), folder.root)
    try:
        server.run()
    finally:
        studio.queue.close()
        held.close()


def assembled(studio: Studio, token: str, *, local: bool, toy: bool, address: tuple[str, int]) -> Guard:
    """
    Put the page behind the guard.

    Parameters
    ----------
    studio : Studio
        What the page can be asked to do.
    token : str
        What whoever asks must know, or empty.
    local : bool
        Whether the server listens to this machine alone.
    toy : bool
        Whether the networks are the toy's.
    address : (str, int)
        Host and port.

    Returns
    -------
    Guard
        An application of ASGI.
    """
    import gradio as gr
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse, PlainTextResponse

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def answer() -> Any:
        return PlainTextResponse("yes")

    def file_of_run(name: str, file: str) -> Any:
        try:
            return FileResponse(studio.folder.served(name, file))
        except MediaError as error:
            raise HTTPException(404, str(error)) from error

    app.get("/alive")(answer)
    app.get("/runs/{name}/{file:path}")(file_of_run)
    gr.mount_gradio_app(
        app, page(studio, toy=toy), "/", server_name=address[0], server_port=address[1], footer_links=[],
        run_history=False, allowed_paths=[], show_error=True, max_file_size=studio.most_upload, ssr_mode=False,
        enable_monitoring=False, pwa=False, mcp_server=False, head=head(),
        theme=gr.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"]),
    )  # fmt: skip
    return Guard(app, studio.folder, token, local=local)


def _keep_inside(folder: Folder) -> None:
    """Let this process and its runs write temporary files inside the folder alone, and Gradio send nothing anywhere."""
    every = folder.root / "scratch"
    every.mkdir(exist_ok=True)
    for left in every.iterdir():  # of servers that were killed
        if not (left.name.isdigit() and alive(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)
    scratch = every / str(os.getpid())
    scratch.mkdir(exist_ok=True)
    os.environ |= {
        "GRADIO_TEMP_DIR": str(folder.uploads),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TMPDIR": str(scratch),
    }
    tempfile.tempdir = str(scratch)


def _token(given: str | None, *, local: bool) -> str:
    """Give the token that is asked for, or a new one where others than this machine can reach the page."""
    if given is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", given):
        msg = (
            f"--token: got {len(given)} characters, expected at least 16 letters, digits, - or _; leave it out for a "
            "new one"
        )
        raise ValueError(msg)
    return given or ("" if local else secrets.token_urlsafe(24))


def _address(host: str, port: int, token: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{f'?token={token}' if token else ''}"


class _Announcing:
    """A server of uvicorn that says where it is once it listens."""

    @staticmethod
    def of(base: Any, config: Any, address: str, root: Path) -> Any:
        """Make one."""

        class Server(base):  # type: ignore[misc]  # of a package that is imported when it is used
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets)
                if self.started:
                    print(f"{address}\nfiles are in {root}; Ctrl-C ends the server", flush=True)

        return Server(config)
