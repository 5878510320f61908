"""From a plan to images: customization, batches, workers and executors."""
