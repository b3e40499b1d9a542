"""Signals (blinker). The sender is the Flask app, as with Flask's own signals.

@file_saved.connect_via(app)
def index(app, *, uploads, file): ...
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: After all files of a call are durable, once for each: ``uploads`` (the extension), ``file`` (a ``StoredFile``).
#: An exception in a receiver fails the upload, and the files are removed again.
file_saved = _signals.signal("file-saved")

#: After a file was deleted: ``uploads`` (the extension), ``key``.
file_deleted = _signals.signal("file-deleted")
