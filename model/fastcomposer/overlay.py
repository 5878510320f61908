"""File names in an overlay, a folder with the weights that FastComposer's training changed in a base pipeline."""

PARTS = ("unet", "image_encoder", "postfuse_module")
"""The trained parts, which are the overlay's folders."""
TRAINED_LAYERS = "trained_layers.safetensors"
"""An image encoder, stored as the layers that training changed in a CLIP model."""
UNET_DIFFERENCE = "difference.safetensors"
"""A UNet, stored as its difference to the base model's UNet."""
