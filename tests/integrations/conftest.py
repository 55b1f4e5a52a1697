"""Tests of what runs inside other programs."""

collect_ignore = ["comfyui_host.py", "comfyui_models.py"]  # run in the host's own environment
