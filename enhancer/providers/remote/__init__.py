"""
Any server with OpenAI's `/v1/videos`: a video is ordered by a POST, asked for until it is done, and fetched.

OpenAI itself has shut the service down (2026-09-24). Others have the shape, each in its own way:

    server     where it differs                                                      seen in
    vLLM-Omni  needs no model; `progress` may stay 0; DELETE stops the work          docs/serving/videos_api.md
    SGLang     an error has no code; the content is a 404 until the video is done;   multimodal_gen/runtime/entrypoints/
               DELETE leaves the work running                                        openai/video_api.py
    LiteLLM    "processing" while Veo works, without `progress`; the `id` of a       proxy/video_endpoints,
               look may be another than that of the order; DELETE is a 405; a        llms/*/videos (1.108)
               refusal holds the model's own as text
    aimock     `id`, `status` and `created_at` alone, `url` at the end; no DELETE    dist/video.js (1.43)
    gateways   "succeeded" and the like; the content is a redirect to a store        several

So: an order's id is the one that its POST brought, a status that nobody knows means that it is being worked on, a
missing percentage is no percentage, and that a server cannot be told to stop is no failure.
"""

from enhancer.providers.remote.videos import RemoteVideos, connect

__all__ = ["RemoteVideos", "connect"]
