"""Tests of what runs inside other programs."""

collect_ignore = ["comfyui_host.py"]  # runs in the host's own environment
