"""The pocket world: a procedural portrait world and miniatures of every model, trained on it."""
