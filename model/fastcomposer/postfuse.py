"""The post-fuse module, which fuses a subject's image embedding into the text embedding of its noun."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from fc_bench.model.errors import ModelInputError


class FeedForward(nn.Module):
    """LayerNorm -> Linear -> GELU -> Linear, with or without a residual connection."""

    def __init__(self, in_features: int, features: int, residual: bool):
        super().__init__()
        self.layernorm = nn.LayerNorm(in_features)
        self.fc1 = nn.Linear(in_features, features)
        self.fc2 = nn.Linear(features, features)
        self.residual = residual

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs [..., features] for inputs [..., in_features]."""
        outputs = self.fc2(nn.functional.gelu(self.fc1(self.layernorm(inputs))))
        return outputs + inputs if self.residual else outputs


def check_features(*, postfuse: int, text: int, image: int, unet: int) -> None:
    """Raise ModelInputError unless all parts have embeddings of the same number of features."""
    if not postfuse == text == image == unet:
        raise ModelInputError(
            f"the models have different numbers of features: {text} in the text, {image} in the image encoder, "
            f"{postfuse} in the post-fuse module and {unet} in the UNet's cross-attention: use models that fit together"
        )


class PostfuseModule(ModelMixin, ConfigMixin):
    """h' = LayerNorm(MLP2(MLP1([h; e]) + h)) at every image token, with text embedding h and subject embedding e.

    It has 14 tensors, and 2,958,336 parameters at 768 features, 20,996,096 at Stable Diffusion XL's 2048. FastComposer
    (arXiv 2305.10431), section 4.1.
    """

    @register_to_config
    def __init__(self, *, features: int = 768):  # keyword-only: diffusers takes a positional value for a default
        super().__init__()
        self.mlp1 = FeedForward(2 * features, features, residual=False)
        self.mlp2 = FeedForward(features, features, residual=True)
        self.layer_norm = nn.LayerNorm(features)

    @torch.no_grad()
    def take_scale(self, tokens: Tensor) -> None:
        """Let the last norm give features with the mean and deviation of those of `tokens` [n, features].

        A new norm gives 0 and 1, which text encoders without a norm at their end are far from.
        """
        self.layer_norm.weight.fill_(tokens.float().std(-1, correction=0).mean())
        self.layer_norm.bias.fill_(tokens.float().mean())

    def forward(self, text_embeds: Tensor, image_token_mask: Tensor, subject_embeds: Tensor) -> Tensor:
        """The text embeddings with fused entries at the image tokens, [batch, length, features].

        `image_token_mask` [batch, length] is true at image tokens. `subject_embeds` [image tokens, features] has one
        embedding per image token, in the order of the batch and then of the prompt. Raises ModelInputError if their
        numbers differ.
        """
        tokens = text_embeds[image_token_mask]
        if tokens.shape[0] != subject_embeds.shape[0]:
            raise ModelInputError(
                f"{tokens.shape[0]} image tokens cannot be fused with {subject_embeds.shape[0]} subject embeddings: "
                "give one embedding per image token"
            )
        fused = self.mlp1(torch.cat([tokens, subject_embeds.to(tokens.dtype)], dim=-1)) + tokens
        fused = self.layer_norm(self.mlp2(fused))
        return text_embeds.masked_scatter(image_token_mask[..., None], fused.to(text_embeds.dtype))
