"""AdaDiffSR as a ComfyUI node pack; the host imports this folder by its path."""

# Nothing but these two: pytest imports this file too, where there is no host.
WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    """The host's door to the nodes."""
    from .nodes import AdaDiffSRExtension

    return AdaDiffSRExtension()
