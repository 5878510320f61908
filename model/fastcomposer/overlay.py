"""Names of the files of an overlay: what FastComposer's training changed of a base pipeline."""

TRAINED_LAYERS = "trained_layers.safetensors"
"""Of an image encoder that is there as what training changed of the CLIP model it began with."""
UNET_DIFFERENCE = "difference.safetensors"
"""Of a UNet that is there as what fine-tuning changed of its base model's."""
