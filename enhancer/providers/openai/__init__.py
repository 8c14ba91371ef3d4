"""OpenAI, and every server that speaks its language (vLLM, SGLang, LiteLLM, Ollama and others)."""

from enhancer.providers.openai.connection import connect
from enhancer.providers.openai.images import OpenAIImages
from enhancer.providers.openai.listings import Listing, listings
from enhancer.providers.openai.scripts import OpenAIScripts

__all__ = ["Listing", "OpenAIImages", "OpenAIScripts", "connect", "listings"]
