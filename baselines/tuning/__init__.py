"""What the methods that tune share: the base model's parts, class images, the loop, the adapters' common half."""
