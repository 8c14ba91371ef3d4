"""
The offline studio: what the service does without any key.

A real enhancement and a real script, made on this machine and named as such. The same photo and the same words
always give the same result; nothing is billed.
"""

from __future__ import annotations

from enhancer.providers.studio.images import StudioImages
from enhancer.providers.studio.scripts import StudioScripts

__all__ = ["StudioImages", "StudioScripts"]
