"""The signals, made with blinker.

The sender is the Flask app, as with Flask's own signals:

    @file_saved.connect_via(app)
    def index(app, *, uploads, file): ...
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: Sent once for each file, after all files of a call are durable. ``uploads`` is the ``Uploads`` object, ``file`` is a
#: ``StoredFile``. An exception in a receiver fails the upload, and all files of the call are deleted again.
file_saved = _signals.signal("file-saved")

#: Sent after a file was deleted. ``uploads`` is the ``Uploads`` object, ``key`` is the key of the file.
file_deleted = _signals.signal("file-deleted")
