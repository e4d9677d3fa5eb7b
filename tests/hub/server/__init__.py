"""
A small Hugging Face Hub on 127.0.0.1, for the real clients: HTTP, state on disk, faults on request.

`python -m tests.hub.server --root DIR` prints `READY http://127.0.0.1:PORT`. Commits are json documents rather than git
objects; file ids are those of git, because clients compare them.
"""
