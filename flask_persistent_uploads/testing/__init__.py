"""Tests for the backend contract. Every backend inherits them, including yours. They require pytest.

class TestGcsBackend(BackendContract):
    @pytest.fixture
    def backend(self):
        return GcsBackend(bucket="test")
"""

from __future__ import annotations

from .addressing import AddressingContract
from .reading import ReadingContract
from .samples import NOT_KEYS, ODD_KEYS, SIMILAR_KEYS, sample
from .saving import SavingContract

__all__ = ["NOT_KEYS", "ODD_KEYS", "SIMILAR_KEYS", "BackendContract", "sample"]


class BackendContract(SavingContract, ReadingContract, AddressingContract):
    """Tests each promise of :class:`~flask_persistent_uploads.backends.base.Backend` once.

    Inherit from this class and override the ``backend`` fixture. The tests use fresh keys and leave their files
    behind, so several classes and runs may share one store.
    """
