"""Tables of quality: identity preservation, prompt consistency and what stands beside and below them."""
