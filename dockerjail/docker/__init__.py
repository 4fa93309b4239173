"""
Docker Engine in, chunks of complete lines out.

One task per container carries them; nothing here knows what a jail is. Only
`client` imports aiodocker and aiohttp.
"""
