"""The page of ``ltx-models serve``: a form, a queue of one run at a time, and one folder that holds every file."""
