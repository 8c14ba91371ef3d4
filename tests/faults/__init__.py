"""The proof of what the engine promises: real processes, real servers, real faults, and an offline checker."""
