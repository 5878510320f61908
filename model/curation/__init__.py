"""Curation: a folder of images becomes a training set with captions, masks and matched noun phrases."""
