"""
The offline studio: what the service does without any key.

A real enhancement, a real script and a real video, made on this machine and named as such. The same photo and the
same words always give the same result; nothing is billed.
"""

from __future__ import annotations

from enhancer.providers.studio.images import StudioImages
from enhancer.providers.studio.scripts import StudioScripts
from enhancer.providers.studio.videos import StudioVideos

__all__ = ["StudioImages", "StudioScripts", "StudioVideos"]
